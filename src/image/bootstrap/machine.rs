//! A virtual machine's disk of an installed system: partitions, boot loader, root file system, all in one qcow2 file.
//!
//! Called by [`super::build`]. No device and no mount is needed: each tool writes into its part of a file. The loader is the
//! distribution's signed one (shim and GRUB) at the place that every UEFI firmware looks at, so that machines boot with Secure Boot
//! as well; kernel and initial RAM disk stay in the root file system, where upgrades put new ones. At boot the root partition and
//! its file system take what room the disk has.

use super::gpt::{self, Partition};
use super::tree::Tree;
use super::{Build, Dest, System};
use crate::error::{Context, Error, Result};
use crate::host::command::{Cmd, Program};
use crate::image::create_blob;
use crate::sys::path::{self, Kind, Links};
use rustix::fs::OFlags;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const MKFS_VFAT: Program = Program { name: "mkfs.vfat", package: "dosfstools" };
const MCOPY: Program = Program { name: "mcopy", package: "mtools" };
const MKE2FS: Program = Program { name: "mke2fs", package: "e2fsprogs" };
const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };
const DEADLINE: Duration = Duration::from_secs(3600);

const MIB: u64 = 1 << 20;
/// Where the two partitions begin.
const ESP: u64 = MIB;
const ROOT: u64 = 64 * MIB;
/// Size of the disk if the system fits, as that of images of public servers; less than an instance's usual root disk.
const DISK: u64 = 4 << 30;
/// Larger than any boot loader.
const LOADER_MAX: u64 = 32 << 20;

/// What differs between processors.
struct Machine {
    /// As in packages' names.
    debian: &'static str,
    /// As in names of UEFI programs.
    uefi: &'static str,
    /// As in names of GRUB's folders.
    grub: &'static str,
    /// Serial console.
    serial: &'static str,
    /// Kind of a root partition (Discoverable Partitions Specification).
    root: u128,
}

const MACHINES: &[(&str, Machine)] = &[
    (
        "x86_64",
        Machine {
            debian: "amd64",
            uefi: "x64",
            grub: "x86_64",
            serial: "ttyS0",
            root: 0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709,
        },
    ),
    (
        "aarch64",
        Machine {
            debian: "arm64",
            uefi: "aa64",
            grub: "arm64",
            serial: "ttyAMA0",
            root: 0xb921b045_1df0_41c3_af44_4c6f280d3fae,
        },
    ),
];
const ESP_KIND: u128 = 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b;

fn machine() -> Result<&'static Machine> {
    let own = std::env::consts::ARCH;
    let found = MACHINES.iter().find(|(name, _)| *name == own);
    found.map(|(_, m)| m).ok_or_else(|| Error::unsupported(format!("No virtual machine image can be built for {own}")))
}

/// Looks for all that is needed before anything slow begins.
///
/// # Errors
/// `Unsupported`: a tool is missing; not for this system or processor.
pub fn check(build: &Build<'_>) -> Result<()> {
    if build.recipe.system == System::Busybox {
        return Err(Error::unsupported("There is no virtual machine image of \"busybox\"")
            .hint("try \"debian/13\" or \"ubuntu/24.04\""));
    }
    machine()?;
    [MKFS_VFAT, MCOPY, MKE2FS, QEMU_IMG].into_iter().try_for_each(|tool| build.runner.find(tool).map(drop))
}

/// Packages that a machine needs beyond a container's.
///
/// # Errors
/// As [`check`].
pub fn packages(build: &Build<'_>) -> Result<Vec<String>> {
    let arch = machine()?.debian;
    let kernel = match build.recipe.system {
        System::Ubuntu => "linux-image-virtual".to_string(),
        _ => format!("linux-image-{arch}"),
    };
    let mut all = vec![kernel, format!("grub-efi-{arch}"), format!("grub-efi-{arch}-signed")];
    all.extend(["e2fsprogs", "initramfs-tools", "kmod", "shim-signed", "zstd"].map(String::from));
    if build.recipe.repart_package {
        all.push("systemd-repart".to_string());
    }
    Ok(all)
}

const NETWORK: &[u8] =
    b"[Match]\nName=en* eth*\n\n[Network]\nDHCP=true\n\n[DHCPv4]\nUseDomains=true\nClientIdentifier=mac\n";

/// The host offers its agent in a share, and says by a port of this name that there is one.
const AGENT_RULE: &[u8] = b"ACTION==\"add\", SUBSYSTEM==\"virtio-ports\", ATTR{name}==\"org.linuxcontainers.incus\", \
    TAG+=\"systemd\", ENV{SYSTEMD_WANTS}+=\"stapes-agent.service\"\n";

const AGENT_UNIT: &[u8] = b"[Unit]
Description=Agent of the host
Before=multi-user.target cloud-init.target cloud-init.service cloud-init-local.service
DefaultDependencies=no
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=all
ExecCondition=/usr/lib/systemd/stapes-agent-setup
ExecStart=/run/stapes_agent/agent
WorkingDirectory=-/run/stapes_agent
Restart=on-failure
RestartSec=5
";

const AGENT_SETUP: &[u8] = b"#!/bin/sh
# Takes the agent out of what the host offers: a share, or a disk. Without one the service is left alone.
home=/run/stapes_agent share=/run/stapes_agent/.share
umount -l \"$home\" 2>/dev/null
mkdir -p \"$home\" && mount -t tmpfs -o mode=0700,size=64M tmpfs \"$home\" && mkdir \"$share\" || exit 1
modprobe -q -a 9pnet_virtio virtiofs
if mount -t virtiofs -o ro config \"$share\" 2>/dev/null ||
    mount -t 9p -o ro,access=0,trans=virtio,msize=1048576 config \"$share\" 2>/dev/null ||
    mount -o ro /dev/disk/by-label/incus-agent \"$share\" 2>/dev/null; then
    cp -R \"$share/.\" \"$home/\"
    umount \"$share\"
    chown -R root:root \"$home\"
    for agent in stapes-agent incus-agent; do
        if [ -f \"$home/$agent\" ]; then
            chmod 0755 \"$home/$agent\"
            ln -sf \"$agent\" \"$home/agent\"
            exit 0
        fi
    done
fi
umount -l \"$home\"
exit 1
";

/// Makes the installed system a machine's; `root`: of its file system.
///
/// # Errors
/// It has no kernel; it cannot be written.
pub fn finish(rootfs: &OwnedFd, root: Uuid) -> Result<()> {
    let (tree, machine) = (Tree(rootfs), machine()?);
    let console = format!("console=tty0 console={}", machine.serial);
    let grub = format!(
        "GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\nGRUB_CMDLINE_LINUX=\"{console}\"\n\
         GRUB_TERMINAL=console\nGRUB_DISABLE_OS_PROBER=true\n"
    );
    // The first one; the system itself makes the next, when it gets a new kernel.
    let version = kernel(rootfs)?;
    let menu = format!(
        "set timeout=0\nsearch --no-floppy --fs-uuid --set=root {root}\nmenuentry \"Linux\" {{\n\
         \tlinux /boot/vmlinuz-{version} root=UUID={root} ro {console}\n\tinitrd /boot/initrd.img-{version}\n}}\n"
    );
    let table = format!(
        "UUID={root} / ext4 errors=remount-ro,x-systemd.growfs 0 1\nUUID={} /boot/efi vfat umask=0077,nofail 0 0\n",
        esp_id(root, "-")
    );
    tree.dir("boot/efi", 0o755)?;
    for (name, mode, data) in [
        ("boot/grub/grub.cfg", 0o600, menu.as_bytes()),
        ("etc/default/grub.d/50-machine.cfg", 0o644, grub.as_bytes()),
        ("etc/fstab", 0o644, table.as_bytes()),
        ("etc/repart.d/50-root.conf", 0o644, b"[Partition]\nType=root\n"),
        ("etc/systemd/network/en.network", 0o644, NETWORK),
        ("etc/systemd/system/stapes-agent.service", 0o644, AGENT_UNIT),
        ("etc/udev/rules.d/99-stapes-agent.rules", 0o644, AGENT_RULE),
        ("usr/lib/systemd/stapes-agent-setup", 0o755, AGENT_SETUP),
    ] {
        tree.file(name, data, mode)?;
    }
    Ok(())
}

/// Number of the ESP's file system, made of the root's, as its maker and `/etc/fstab` write it.
fn esp_id(root: Uuid, between: &str) -> String {
    let text = root.simple().to_string().to_ascii_uppercase();
    format!("{}{between}{}", &text[..4], &text[4..8])
}

fn kernel(rootfs: &OwnedFd) -> Result<String> {
    let boot = path::open_dir(rootfs.as_fd(), "boot".as_ref(), Links::InRoot)?;
    let names = path::read_dir(boot.as_fd())?.into_iter();
    let mut found = names.filter_map(|e| Some(e.name.to_str()?.strip_prefix("vmlinuz-")?.to_string()));
    // It becomes a word of the loader's.
    let plain = |v: &String| v.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~".contains(&b));
    found.find(plain).ok_or_else(|| Error::failed("The system was installed without a kernel"))
}

/// Makes the disk of the root file system `rootfs` in `staging`, as the image's rootfs file; its size.
///
/// # Errors
/// A tool fails; the system has no signed boot loader.
pub fn disk(build: &Build<'_>, staging: &OwnedFd, dest: Dest<'_>, root: Uuid) -> Result<u64> {
    let machine = machine()?;
    let rootfs = path::open_dir(staging.as_fd(), "rootfs".as_ref(), Links::Refuse)?;
    // A quarter for what the file system needs itself and a beginning.
    let wanted = used(rootfs.as_fd(), 0)? / 4 * 5 + 512 * MIB;
    let size = DISK.max((ROOT + wanted).next_multiple_of(1 << 30));
    loader(build.recipe.system, machine, staging, root)?;
    let raw = dest.staging.join("disk.raw");
    let disk = create_blob(&raw)?;
    disk.set_len(size).context("Failed making the disk")?;
    let id = Uuid::new_v4;
    let end = gpt::end(size) / MIB * MIB;
    let parts = [
        Partition { kind: Uuid::from_u128(ESP_KIND), id: id(), name: "ESP", start: ESP, end: ROOT },
        Partition { kind: Uuid::from_u128(machine.root), id: id(), name: "root", start: ROOT, end },
    ];
    gpt::write(&disk, size, id(), &parts)?;
    for cmd in tools(dest, &raw, end, root) {
        build.runner.run(cmd.timeout(DEADLINE))?;
    }
    // An image has nothing of that name.
    let tree = Tree(staging);
    tree.remove("disk.raw")?;
    tree.empty("esp")?;
    path::remove_dir(staging.as_fd(), "esp".as_ref(), Links::Refuse)?;
    Ok(size)
}

/// What fills the partitions, then packs the disk.
fn tools(dest: Dest<'_>, raw: &Path, end: u64, root: Uuid) -> [Cmd; 4] {
    let sectors = (ESP / gpt::SECTOR).to_string();
    let esp = Cmd::new(MKFS_VFAT)
        .args(["-F", "32", "-s", "1", "-n", "ESP", "-i", &esp_id(root, ""), "--offset", &sectors])
        .arg(raw)
        .arg(((ROOT - ESP) / 1024).to_string());
    let mut place = raw.as_os_str().to_owned();
    place.push(format!("@@{ESP}"));
    let mut files = Cmd::new(MCOPY).args(["-s", "-i"]).arg(place).arg(dest.staging.join("esp/EFI")).arg("::");
    // It judges disks by rules for floppies otherwise.
    files.env.push(("MTOOLS_SKIP_CHECK".into(), "1".into()));
    let ext4 = Cmd::new(MKE2FS)
        .args(["-q", "-F", "-t", "ext4", "-L", "root", "-U", &root.to_string()])
        .args(["-E", &format!("offset={ROOT},lazy_itable_init=1"), "-d"])
        .arg(dest.staging.join("rootfs"))
        .arg(raw)
        .arg(format!("{}k", (end - ROOT) / 1024));
    let pack = Cmd::new(QEMU_IMG)
        .args(["convert", "-f", "raw", "-O", "qcow2", "-c", "-W", "-o", "compression_type=zstd"])
        .arg(raw)
        .arg(dest.blob_rootfs);
    [esp, files, ext4, pack]
}

/// The boot loader's files in `staging/esp`, as they are to be on the ESP.
fn loader(system: System, machine: &Machine, staging: &OwnedFd, root: Uuid) -> Result<()> {
    let rootfs = path::open_dir(staging.as_fd(), "rootfs".as_ref(), Links::Refuse)?;
    let uefi = machine.uefi;
    let grub = format!("usr/lib/grub/{}-efi-signed/grub{uefi}.efi.signed", machine.grub);
    let copies = [
        (format!("usr/lib/shim/shim{uefi}.efi.signed"), format!("BOOT{}.EFI", uefi.to_ascii_uppercase())),
        (format!("usr/lib/shim/mm{uefi}.efi"), format!("mm{uefi}.efi")),
        (grub, format!("grub{uefi}.efi")),
    ];
    let tree = Tree(staging);
    for (from, to) in copies {
        let mut data = Vec::new();
        let found = path::open_regular(rootfs.as_fd(), from.as_ref(), OFlags::RDONLY, Links::InRoot);
        let file = found.with_context(|| format!("Failed reading \"/{from}\""))?;
        file.take(LOADER_MAX).read_to_end(&mut data).with_context(|| format!("Failed reading \"/{from}\""))?;
        tree.file(&format!("esp/EFI/BOOT/{to}"), &data, 0o644)?;
    }
    // GRUB was signed with this place in it.
    let place = format!("esp/EFI/{}/grub.cfg", system.title().to_lowercase());
    let text = format!("search.fs_uuid {root} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n");
    tree.file(&place, text.as_bytes(), 0o644)
}

/// Bytes that a tree takes, roughly: whole blocks of files, and an inode of each entry.
fn used(dir: BorrowedFd<'_>, depth: usize) -> Result<u64> {
    let mut sum = 0;
    for entry in path::read_dir(dir)? {
        let stat = path::stat_in(dir, &entry.name)?;
        sum += 256 + stat.size.next_multiple_of(4096);
        // Deeper than packages have it; the file system's maker will tell.
        if stat.kind == Kind::Dir && depth < 256 {
            let child = path::open_dir(dir, Path::new(&entry.name), Links::Refuse)?;
            sum += used(child.as_fd(), depth + 1)?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tests {
    use super::*;
    use crate::host::command::{Answer, Fake};
    use jiff::Timestamp;

    const ID: Uuid = Uuid::from_u128(0x01234567_89ab_cdef_0123_456789abcdef);

    fn checked(alias: &str, tools: &[&'static str]) -> Result<()> {
        let recipe = super::super::parse(alias).expect("recipe");
        let fake = Fake::new(tools, |_| Answer::default());
        let now = Timestamp::UNIX_EPOCH;
        check(&Build { recipe: &recipe, vm: true, mirror: None, keyring: None, packages: &[], now, runner: &fake })
    }

    #[test]
    fn what_is_missing_is_named_before_anything_is_downloaded() {
        let tools = ["mkfs.vfat", "mcopy", "mke2fs", "qemu-img"];
        assert!(checked("debian/12", &tools).is_ok());
        let e = checked("debian/12", &tools[..3]).expect_err("missing");
        assert_eq!(e.hint_text(), Some("install the package \"qemu-utils\""));
        assert!(checked("busybox", &tools).is_err());
    }

    #[test]
    fn each_tool_has_its_part_of_the_disk() {
        let (blob, staging) = (Path::new("/b"), Path::new("/s"));
        let dest = Dest { blob, blob_rootfs: Path::new("/b.rootfs"), staging };
        let lines = tools(dest, Path::new("/s/disk.raw"), 1 << 30, ID).map(|cmd| {
            let args: Vec<_> = cmd.args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
            format!("{} {}", cmd.program.name, args.join(" "))
        });
        assert_eq!(
            lines,
            [
                "mkfs.vfat -F 32 -s 1 -n ESP -i 01234567 --offset 2048 /s/disk.raw 64512",
                "mcopy -s -i /s/disk.raw@@1048576 /s/esp/EFI ::",
                "mke2fs -q -F -t ext4 -L root -U 01234567-89ab-cdef-0123-456789abcdef \
                 -E offset=67108864,lazy_itable_init=1 -d /s/rootfs /s/disk.raw 983040k",
                "qemu-img convert -f raw -O qcow2 -c -W -o compression_type=zstd /s/disk.raw /b.rootfs",
            ]
        );
    }

    #[test]
    fn a_system_gets_what_boots_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("folder");
        let root = path::open_root(dir.path()).expect("root");
        let tree = Tree(&root);
        tree.file("boot/vmlinuz-1 ; reboot", b"", 0o644).expect("file");
        assert!(kernel(&root).is_err());
        tree.file("boot/vmlinuz-6.1.0-9-x", b"", 0o644).expect("file");
        finish(&root, ID).expect("finished");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
        let menu = read("boot/grub/grub.cfg");
        assert!(menu.contains("linux /boot/vmlinuz-6.1.0-9-x root=UUID=01234567-89ab-cdef-"), "{menu}");
        assert!(read("etc/fstab").contains("UUID=0123-4567 /boot/efi vfat "));
        assert!(read("etc/systemd/system/stapes-agent.service").contains("ExecCondition=/usr/lib/systemd/"));
        assert!(used(root.as_fd(), 0).expect("size") > 4096);
    }
}
