//! Sizes of roots and of custom volumes: kept inside, shown, changed while the instance runs. Of btrfs everywhere; of ext4 and
//! xfs where the kernel has project quotas.

use super::common_root::{self, State};
use super::support::{Device, More, state};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A pool `p` whose file system keeps sizes.
struct Sized {
    state: State,
    driver: &'static str,
    mounted: Option<Mount>,
}

/// A mounted device.
struct Mount {
    at: PathBuf,
    _device: Device,
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[&self.at.display().to_string()]);
    }
}

/// Driver and file system.
const KINDS: [(&str, &str); 5] =
    [("btrfs", ""), ("dir", "ext4"), ("overlay", "ext4"), ("dir", "xfs"), ("overlay", "xfs")];

fn run(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).output().is_ok_and(|out| out.status.success())
}

impl Sized {
    /// None, and said so, where the kernel cannot.
    fn new(test: &str, (driver, kind): (&'static str, &str)) -> Option<Self> {
        let state = state(test, true)?;
        if kind.is_empty() {
            state.ok("storage create p btrfs size=512MiB");
            return Some(Self { state, driver, mounted: None });
        }
        let device = Device::new(&state, "disk");
        let options: &[&str] = if kind == "ext4" { &["-q", "-O", "quota,project"] } else { &["-q"] };
        let made = run(&format!("mkfs.{kind}"), &[options, &[&device.shown()]].concat());
        let at = state.path("fs");
        std::fs::create_dir(&at).unwrap();
        if !made || !run("mount", &["-t", kind, "-o", "prjquota", &device.shown(), &at.display().to_string()]) {
            common_root::skip(&format!("{test} ({driver} on {kind})"), "the kernel has no project quotas for it");
            return None;
        }
        let source = at.join("pool");
        std::fs::create_dir(&source).unwrap();
        let sized = Self { state, driver, mounted: Some(Mount { at, _device: device }) };
        // xfs without them ignores the option, or is mounted without.
        let created =
            sized.state.words(&format!("storage create p {driver} source={} volume.size=100MiB", source.display()));
        created.clone().good().unwrap();
        if created.stderr.contains("Warning") {
            common_root::skip(&format!("{test} ({driver} on {kind})"), "the kernel has no project quotas for it");
            sized.finish();
            return None;
        }
        sized.state.ok("storage unset p volume.size");
        Some(sized)
    }

    /// Tries to write so many MiB into a file inside; how it went.
    fn writes(&self, name: &str, file: &str, mib: u32) -> bool {
        let script = format!("dd if=/dev/zero of={file} bs=1M count={mib} conv=fsync 2>&1");
        let out = self.state.sh(name, &script);
        assert!(out.ok() || out.stdout.contains("No space left") || out.stdout.contains("uota exceeded"), "{out}");
        out.ok()
    }

    /// Bytes used and the size of the root, as `list` has them.
    fn root(&self, name: &str) -> (u64, u64) {
        let all: serde_json::Value =
            serde_json::from_str(&self.state.ok(&format!("list ^{name}$ -c nD -f json"))).unwrap();
        let disk = &all[0]["state"]["disk"]["root"];
        (disk["usage"].as_u64().unwrap(), disk["total"].as_u64().unwrap())
    }

    fn finish(self) {
        let Self { state, mounted, .. } = self;
        state.delete_all().unwrap();
        state.ok("storage delete p");
        drop(mounted);
        state.finish(&[]);
    }
}

const MIB: u64 = 1 << 20;

fn each(test: &str, body: impl Fn(&Sized)) {
    for kind in KINDS {
        eprintln!("{test}: {kind:?}");
        if let Some(sized) = Sized::new(test, kind) {
            body(&sized);
            sized.finish();
        }
    }
}

#[test]
fn a_root_is_kept_to_its_size_and_resized_in_use() {
    each("a_root_is_kept_to_its_size_and_resized_in_use", |s| {
        let state = &s.state;
        state.ok("launch img c1 -s p -d root,size=60MiB");
        state.ok("profile create on-p");
        state.ok("profile device add on-p root disk path=/ pool=p");
        state.ok("launch img c2 -p on-p");
        assert_eq!(s.root("c1").1, 60 * MIB);
        assert_eq!(s.root("c2").1, 0);
        assert!(!s.writes("c1", "/root/big", 100), "a write beyond the size");
        assert!(s.writes("c2", "/root/big", 100), "others are not touched");
        state.ok("list");
        let used = s.root("c1").0;
        assert!(used > 40 * MIB && used <= 61 * MIB, "{used}");
        if s.driver != "btrfs" {
            let df = state.sh("c1", "df -k / | tail -n 1").good().unwrap();
            assert!(df.split_whitespace().any(|w| w == (60 * 1024).to_string()), "{df}");
        }
        // Too small is refused, and changes nothing.
        state.refuses("config device set c1 root size=20MiB", "holds");
        assert_eq!(state.ok("config device get c1 root size"), "60MiB\n");
        assert_eq!(s.root("c1").1, 60 * MIB);
        state.ok("config device set c1 root size=200MiB");
        assert!(s.writes("c1", "/root/big", 120), "it has grown");
        // What the file system has not counted yet counts, and what is refused is taken back.
        state.sh("c1", "rm /root/big; sync; dd if=/dev/zero of=/root/big bs=1M count=100 2>&1").good().unwrap();
        state.refuses("config device set c1 root size=20MiB", "holds");
        assert_eq!(s.root("c1").1, 200 * MIB);
        state.ok("config set c1 user.any=thing");
        state.sh("c1", "rm /root/big; sync").good().unwrap();
        state.ok("config device set c1 root size=60MiB");
        assert!(!s.writes("c1", "/root/big", 100), "it has shrunk");
        state.ok("config device unset c1 root size");
        assert_eq!(s.root("c1").1, 0);
        assert!(s.writes("c1", "/root/big", 100), "there is none any more");
        // One that had none gets one, from its profile and by an override; stopped, too.
        state.sh("c2", "rm /root/big; sync").good().unwrap();
        state.ok("config device override c2 root size=60MiB");
        assert!(!s.writes("c2", "/root/big", 100), "set while it runs");
        state.ok("stop -f c2");
        state.ok("config device set c2 root size=200MiB");
        state.ok("start c2");
        assert!(s.writes("c2", "/root/big", 120), "set while it was stopped");
        state.ok("delete -f c2");
        state.ok("profile delete on-p");
        state.doctor().unwrap();
    });
}

#[test]
fn a_size_goes_with_restores_and_not_with_copies() {
    each("a_size_goes_with_restores_and_not_with_copies", |s| {
        let state = &s.state;
        state.ok("create img c1 -s p -d root,size=60MiB");
        state.ok("snapshot create c1 s1");
        state.ok("config device set c1 root size=80MiB");
        state.ok("copy c1 c2 --instance-only");
        state.ok("copy c1/s1 c3 -d root,size=200MiB");
        assert_eq!((s.root("c2").1, s.root("c3").1), (80 * MIB, 200 * MIB));
        state.ok("snapshot restore c1 s1");
        assert_eq!(s.root("c1").1, 60 * MIB, "as its devices were");
        state.ok("config device set c1 root size=80MiB");
        state.ok("snapshot restore c1 s1 --diskonly");
        assert_eq!(s.root("c1").1, 80 * MIB, "its devices stay");
        state.ok("start c1 c3");
        assert!(!s.writes("c1", "/root/big", 100) && s.writes("c3", "/root/big", 100));
        state.ok("rename c2 c4");
        state.ok("rebuild img c4");
        assert_eq!(s.root("c4").1, 80 * MIB);
        state.ok("start c4");
        assert!(!s.writes("c4", "/root/big", 100), "after a rebuild");
        state.sh("c4", "rm /root/big; sync").good().unwrap();
        state.ok("stop -f c4");
        let archive = state.path("c4.tar");
        state.ok(&format!("export c4 {} --compression none", archive.display()));
        state.ok("delete c4");
        state.ok(&format!("import {}", archive.display()));
        assert_eq!(s.root("c4").1, 80 * MIB);
        // The profile's size counts for all that have none of their own.
        state.ok("profile create sized");
        state.ok("profile device add sized root disk path=/ pool=p size=60MiB");
        state.ok("create img c5 -p sized");
        state.ok("profile device set sized root size=90MiB");
        assert_eq!((s.root("c5").1, s.root("c3").1), (90 * MIB, 200 * MIB));
        state.ok("delete c5");
        state.ok("profile delete sized");
        state.doctor().unwrap();
    });
}

#[test]
fn custom_volumes_have_sizes() {
    each("custom_volumes_have_sizes", |s| {
        let state = &s.state;
        state.ok("storage volume create p v size=50MiB");
        state.ok("storage set p volume.size=70MiB");
        state.ok("storage volume create p w");
        assert_eq!(state.ok("storage volume get p w size"), "70MiB\n");
        state.ok("launch img c1 -s p");
        assert_eq!(s.root("c1").1, 70 * MIB, "the pool's default");
        state.ok("storage unset p volume.size");
        state.ok("storage volume attach p v c1 v /v");
        state.ok("storage volume attach p w c1 w /w");
        assert!(!s.writes("c1", "/v/big", 60) && s.writes("c1", "/w/big", 60));
        let info = state.ok("storage volume info p v");
        assert!(info.contains("\nTotal: 50.00MiB\n") && info.contains("\nUsage: "), "{info}");
        state.refuses("storage volume set p v size=10MiB", "holds");
        assert_eq!(state.ok("storage volume get p v size"), "50MiB\n");
        state.ok("storage volume set p v size=100MiB");
        state.sh("c1", "rm /v/big; sync; dd if=/dev/zero of=/v/big bs=1M count=80 2>&1").good().unwrap();
        state.refuses("storage volume set p v size=10MiB", "holds");
        state.ok("storage volume snapshot create p v s1");
        state.ok("storage volume copy p/v p/x");
        assert!(state.ok("storage volume info p x").contains("\nTotal: 100.00MiB\n"));
        state.sh("c1", "rm /v/big; sync").good().unwrap();
        state.ok("storage volume unset p v size");
        assert!(!state.ok("storage volume info p v").contains("Total:"));
        assert!(s.writes("c1", "/v/big", 110));
        state.ok("stop -f c1");
        state.ok("config device remove c1 w");
        for name in ["w", "x"] {
            state.ok(&format!("storage volume delete p {name}"));
        }
        state.ok("storage volume set p v size=150MiB");
        state.ok("storage volume snapshot restore p v s1");
        assert!(state.ok("storage volume info p v").contains("\nTotal: 150.00MiB\n"), "after a restore");
        state.ok("delete c1");
        state.ok("storage volume delete p v");
        state.doctor().unwrap();
    });
}

/// The mean ways out: another project, a folder moved in, the inheritance taken off.
#[test]
fn nobody_inside_leaves_the_project() {
    each("nobody_inside_leaves_the_project", |s| {
        if s.driver == "btrfs" || !common_root::have("python3") {
            return;
        }
        s.state.ok("create img c1 -s p -d root,size=60MiB");
        s.state.ok("start c1");
        // What is of the image alone is in no project.
        s.state.sh("c1", "touch /root/own").good().unwrap();
        let pid = s.state.ok("list ^c1$ -f csv -c p").trim().to_string();
        // FS_IOC_FSSETXATTR in the namespaces of the container: another project, and no inheritance.
        let script = "
import fcntl, os, struct, sys
os.chroot('.')
for path in ['/', '/root']:
    fd = os.open(path, os.O_RDONLY)
    old = fcntl.ioctl(fd, 0x801c581f, bytes(28))
    fields = list(struct.unpack('5I8s', old))
    assert fields[3] >= 1 << 24 and fields[0] & 0x200, fields
    for index, value in ((3, 0), (3, 5), (0, fields[0] & ~0x200)):
        new = list(fields)
        new[index] = value
        try:
            fcntl.ioctl(fd, 0x401c5820, struct.pack('5I8s', *new))
            sys.exit(f'{path} {index} {value}: let through')
        except OSError:
            pass
";
        let file = s.state.path("leave.py");
        std::fs::write(&file, script).unwrap();
        // The interpreter is the host's: it comes in by its open files alone.
        let root = format!("/proc/{pid}/root");
        let out = Command::new("nsenter")
            .args(["-t", &pid, "-U", "--preserve-credentials", "-S", "0", "-G", "0", "python3", "-c"])
            .arg(format!("import os; os.chdir({root:?}){script}"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(!s.writes("c1", "/root/big", 100));
    });
}

#[test]
fn where_no_size_is_kept_it_is_said() {
    let Some(state) = state("where_no_size_is_kept_it_is_said", false) else { return };
    if Path::new("/proc/fs/xfs").exists() && state.words("storage set default volume.size=1GiB").stderr.is_empty() {
        common_root::skip("where_no_size_is_kept_it_is_said", "the state folder's file system has project quotas");
        return;
    }
    let refused = "doesn't keep sizes\nmount it with prjquota";
    state.refuses("create img c1 -d root,size=1GiB", refused);
    state.refuses("storage volume create default v size=1GiB", refused);
    state.ok("create img c1");
    state.refuses("config device override c1 root size=1GiB", refused);
    let set = state.words("storage set default volume.size=1GiB");
    assert!(set.ok() && set.stderr.contains("Warning: \"volume.size\" has no effect"), "{set}");
    state.ok("create img c2");
    state.ok("storage volume create default v");
    assert_eq!(state.ok("storage volume get default v size"), "1GiB\n");
    state.ok("storage unset default volume.size");
    let doctor = state.run(&["doctor", "-f", "csv"]).stdout;
    assert!(doctor.contains("doesn't keep the sizes of default/default/v,mount it with prjquota"), "{doctor}");
    state.ok("storage volume delete default v");
    state.finish(&[]);
}

/// What brings a size along is taken where none is kept, and it is told that the size has no effect; where one is kept, it has.
#[test]
fn a_size_that_comes_along_is_kept() {
    let test = "a_size_that_comes_along_is_kept";
    let Some(state) = state(test, true) else { return };
    state.ok("storage create b btrfs size=256MiB");
    state.ok("storage create d dir");
    state.ok("create img c1 -s b -d root,size=64MiB");
    state.ok("storage volume create b v size=32MiB");
    let told = |words: &str, what: &str| {
        let out = state.words(words);
        out.clone().good().unwrap();
        let said =
            format!("Warning: The size of {what} has no effect: the file system of storage pool \"d\" doesn't keep");
        assert!(out.stderr.starts_with(&said), "{words}: {out}");
    };
    if !state.words("storage set d volume.size=1GiB").stderr.contains("Warning") {
        common_root::skip(test, "the state folder's file system has project quotas");
        return;
    }
    state.ok("storage unset d volume.size");
    let root = |name: &str| format!("the root disk of instance \"{name}\"");
    told("copy c1 c2 -s d", &root("c2"));
    told("copy c2 c3", &root("c3"));
    assert_eq!(state.ok("config device get c3 root size"), "64MiB\n");
    state.ok("start c3");
    state.ok("delete -f c3");
    state.ok("export c1 c1.tar");
    told("import -s d c1.tar c3", &root("c3"));
    told("move c1 -s d", &root("c1"));
    assert_eq!(state.words("move c1 -s b").good().unwrap(), "");
    assert!(state.ok("storage volume info b container/c1").contains("Total: 64.00MiB"));
    told("storage volume copy b/v d/w", "volume \"w\"");
    state.ok("storage volume export b v v.tar");
    told("storage volume import d v.tar x", "volume \"x\"");
    told("storage volume move b/v d/v", "volume \"v\"");
    for name in ["v", "w", "x"] {
        assert_eq!(state.ok(&format!("storage volume get d {name} size")), "32MiB\n");
    }
    let back = state.words("storage volume move d/v b/v");
    assert!(back.ok() && back.stderr.is_empty(), "{back}");
    assert!(state.ok("storage volume info b v").contains("Total: 32.00MiB"));
    state.refuses("storage volume set d w size=16MiB", "doesn't keep sizes");
    for volume in ["b v", "d w", "d x"] {
        state.ok(&format!("storage volume delete {volume}"));
    }
    state.finish(&["b", "d"]);
}
