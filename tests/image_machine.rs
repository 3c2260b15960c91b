//! Builds a `bootstrap:` image of a virtual machine for real, and boots it under QEMU with Secure Boot: firmware, signed loader,
//! kernel, systemd. The machine's own agent unit runs what looks at it from inside.
#![allow(clippy::disallowed_methods, reason = "boots what was built with the host's tools")]

mod image_common;

use image_common::{Image, is_root};
use jiff::Timestamp;
use stapes::host::command::{Host, Program, Runner};
use stapes::image::bootstrap::{self, Build};
use stapes::image::import::{Dest, Imported, Input, Source};
use stapes::model::instance::InstanceType;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const KEYS: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";
/// Emulated, on a busy machine.
const BOOT: Duration = Duration::from_secs(480);
/// In which a guest under KVM has long said something, unless it hangs.
const SIGN: Duration = Duration::from_secs(40);

/// What the agent unit finds in the share. It says what it sees at a port: the console is taken from it when the prompt comes.
const AGENT: &str = r#"#!/bin/sh
systemd-notify --ready
state=$(systemctl is-system-running --wait)
exec >/dev/virtio-ports/results 2>&1
printf '\nIS state %s\n' "$state"
systemctl --failed --no-legend --plain
printf '\nIS root %s\n' "$(df --output=size -BM / | tail -n 1 | tr -d ' M')"
printf '\nIS net %s\n' "$(networkctl --no-legend --no-pager | grep -c 'ether *routable')"
printf '\nIS secure %s\n' "$(mokutil --sb-state | head -n 1)"
printf '\nIS menu %s\n' "$(update-grub 2>/dev/null && grep -c 'root=UUID=.* console=tty0 console=ttyS0' /boot/grub/grub.cfg)"
printf '\nIS getty %s\n' "$(systemctl is-active serial-getty@ttyS0.service)"
printf '\nIS end\n'
sleep 2
systemctl poweroff
"#;

fn missing() -> Option<&'static str> {
    let tools: [&'static str; 6] = ["mmdebstrap", "mkfs.vfat", "mcopy", "mke2fs", "qemu-img", "qemu-system-x86_64"];
    let none = |name: &&'static str| Host::default().find(Program { name, package: "" }).is_err();
    let file = [FIRMWARE, KEYS].into_iter().find(|file| !Path::new(file).exists());
    tools.iter().find(|name| none(name)).copied().or(file)
}

fn build(image: &Image) -> stapes::error::Result<Imported> {
    let recipe = bootstrap::parse("debian/12")?;
    let runner = Host::default();
    let now = Timestamp::now();
    let build = Build { recipe: &recipe, vm: true, mirror: None, keyring: None, packages: &[], now, runner: &runner };
    let (blob, root) = (image.path().join("blob"), image.path().join("blob.rootfs"));
    bootstrap::build(&build, Dest { blob: &blob, blob_rootfs: &root, staging: &image.staging() }, &mut |_| Ok(()))
}

/// Ends with the test.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path, disk: &Path, accel: [&str; 4]) -> Machine {
    let done = |command: &mut Command| assert!(command.status().expect("started").success(), "{command:?}");
    let (own, vars, config) = (folder.join("disk.qcow2"), folder.join("vars.fd"), folder.join("config"));
    done(
        Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(disk)
            .arg(&own)
            .arg("10G"),
    );
    std::fs::copy(KEYS, &vars).expect("keys");
    std::fs::create_dir_all(&config).expect("share");
    let agent = config.join("stapes-agent");
    std::fs::write(&agent, AGENT).expect("agent");
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let (console, results) = (folder.join("console"), folder.join("results"));
    let _ = std::fs::remove_file(&console);
    let (own, vars, config) = (own.display(), vars.display(), config.display());
    let (console, results) = (console.display(), results.display());
    let devices = format!(
        "-nodefaults -no-user-config -no-reboot -display none -machine q35,smm=on -m 1024 -smp 2 \
         -global driver=cfi.pflash01,property=secure,value=on \
         -drive if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE} \
         -drive if=pflash,unit=1,format=raw,file={vars} \
         -drive if=none,id=root,file={own},cache=unsafe -device virtio-scsi-pci -device scsi-hd,drive=root \
         -netdev user,id=net -device virtio-net-pci,netdev=net -device virtio-rng-pci \
         -device virtio-serial-pci -chardev null,id=port \
         -device virtserialport,chardev=port,name=org.linuxcontainers.incus \
         -chardev file,id=results,path={results} -device virtserialport,chardev=results,name=results \
         -fsdev local,id=config,path={config},security_model=none,readonly=on \
         -device virtio-9p-pci,fsdev=config,mount_tag=config -serial file:{console}"
    );
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(accel).args(devices.split_whitespace()).stdin(Stdio::null());
    Machine(qemu.spawn().expect("qemu"))
}

/// What `file` has, as soon as `word` is in it or the machine is off, within `time`.
fn said(machine: &mut Machine, file: &Path, word: &str, time: Duration) -> String {
    let end = Instant::now() + time;
    loop {
        let off = machine.0.try_wait().expect("wait").is_some();
        let said = std::fs::read(file).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains(word) || off || Instant::now() > end {
            return said;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Boots it; what the agent said, and the end of what the console did.
fn boot(folder: &Path, disk: &Path) -> (String, String) {
    const KVM: [&str; 4] = ["-accel", "kvm", "-cpu", "host"];
    const TCG: [&str; 4] = ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"];
    let (console, results) = (folder.join("console"), folder.join("results"));
    let finish = |mut machine: Machine| {
        let results = said(&mut machine, &results, "IS end", BOOT);
        let console = String::from_utf8_lossy(&std::fs::read(&console).expect("console")).into_owned();
        (results, console)
    };
    // Guests may hang on it.
    if Path::new("/dev/kvm").exists() {
        let mut machine = start(folder, disk, KVM);
        if said(&mut machine, &console, "Linux version", SIGN).contains("Linux version") {
            return finish(machine);
        }
    }
    finish(start(folder, disk, TCG))
}

/// Takes minutes and the network: asked for by name, `--ignored`.
#[test]
#[ignore = "downloads packages"]
fn debian_machine_boots_with_secure_boot() {
    if let Some(what) = if is_root() { missing() } else { Some("root") } {
        eprintln!("SKIP debian_machine_boots_with_secure_boot: needs {what}");
        return;
    }
    let image = Image::new();
    let built = match build(&image) {
        Err(e) if e.hint_text().is_some_and(|h| h.contains("reached")) => {
            eprintln!("SKIP debian_machine_boots_with_secure_boot: {e}");
            return;
        }
        other => other.expect("built"),
    };
    assert_eq!((built.kind, built.split), (InstanceType::VirtualMachine, true));
    // The stored files import again as the same image.
    let (blob, disk) = (image.path().join("blob"), image.path().join("blob.rootfs"));
    let source =
        Source::Split { metadata: Input::open(&blob).expect("open"), rootfs: Input::open(&disk).expect("open") };
    let again = Image::new().import(source, Some(&built.fingerprint)).expect("imported");
    assert_eq!((again.kind, &again.metadata, again.size), (built.kind, &built.metadata, built.size));
    let (said, console) = boot(image.path(), &disk);
    let lines: Vec<&str> = console.lines().collect();
    let tail = lines[lines.len().saturating_sub(40)..].join("\n");
    let is = |name: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix("IS ")?.strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("nothing about {name} in {said:?}; the console:\n{tail}")).trim_end().to_string()
    };
    assert_eq!(is("state"), "running", "{said}");
    let size: u64 = is("root").parse().expect("MiB");
    assert!(size > 8 << 10, "the root file system has only {size} MiB of a disk of 10 GiB");
    assert_eq!((is("net").as_str(), is("getty").as_str()), ("1", "active"));
    assert_eq!(is("secure"), "SecureBoot enabled");
    assert!(is("menu").parse::<u32>().is_ok_and(|lines| lines > 0), "update-grub made no menu");
    assert!(console.contains("login:"), "no login prompt:\n{tail}");
}
