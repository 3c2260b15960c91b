//! Limits of the reading and writing of disks, as the kernel has them on the block devices below. For the guest
//! (`tests/guest/root-tier root_limits -- disk`) where the machine's cgroup2 has no controller "io".

use crate::common_root::{Out, State, brief, have, skip};
use crate::support::{Ask, until};
use crate::tools::{controlled, files, group};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A state on a file system that has one device, with the numbers of that.
fn on_a_disk(test: &str) -> Option<(State, String)> {
    let state = controlled(test, &["io"])?;
    match device(&state.dir) {
        Some(device) => Some((state, device)),
        None => {
            skip(test, "the state folder lies on no disk");
            None
        }
    }
}

fn device(path: &Path) -> Option<String> {
    let dev = std::fs::metadata(path).unwrap().dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    (major != 0).then(|| format!("{major}:{minor}"))
}

fn limits(state: &State, name: &str) -> String {
    files(state, name, &["io.max"])
}

/// Runs words separated by spaces.
fn run(state: &State, words: &str) -> Out {
    state.run(&words.split(' ').collect::<Vec<_>>())
}

fn ok(state: &State, words: &str) -> String {
    run(state, words).good().unwrap()
}

#[test]
fn disk_limits_change_live() {
    let Some((state, disk)) = on_a_disk("disk_limits_change_live") else { return };
    let max = |words: &str| format!("{disk} {words}");
    state.launch("c1", &["-d", "root,limits.read=1MB", "-d", "root,limits.write=20iops"]).good().unwrap();
    assert_eq!(limits(&state, "c1"), max("rbps=1000000 wbps=max riops=max wiops=20"));
    // The one for both wins.
    ok(&state, "config device set c1 root limits.max=2MB,30iops");
    assert_eq!(limits(&state, "c1"), max("rbps=2000000 wbps=2000000 riops=30 wiops=30"));
    // Another disk on the same device: the average of those that ask.
    let data = state.path("data");
    std::fs::create_dir(&data).unwrap();
    ok(&state, &format!("config device add c1 data disk source={} path=/data limits.read=4MB", data.display()));
    assert_eq!(limits(&state, "c1"), max("rbps=3000000 wbps=2000000 riops=30 wiops=30"));
    // It stays mounted as it is when only that changes.
    let mount = || state.sh("c1", "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f1");
    let before = mount();
    ok(&state, "config device set c1 data limits.read=6MB");
    assert_eq!((limits(&state, "c1"), mount()), (max("rbps=4000000 wbps=2000000 riops=30 wiops=30"), before));
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(limits(&state, "c1"), max("rbps=4000000 wbps=2000000 riops=30 wiops=30"));
    ok(&state, "config device unset c1 root limits.max");
    assert_eq!(limits(&state, "c1"), max("rbps=3500000 wbps=max riops=max wiops=20"));
    ok(&state, "config device remove c1 data");
    assert_eq!(limits(&state, "c1"), max("rbps=1000000 wbps=max riops=max wiops=20"));
    ok(&state, "config device unset c1 root limits.read");
    ok(&state, "config device unset c1 root limits.write");
    assert_eq!(limits(&state, "c1"), "");
    state.finish();
}

#[test]
fn disk_limits_of_a_profile_and_of_a_throwaway() {
    let Some((state, disk)) = on_a_disk("disk_limits_of_a_profile_and_of_a_throwaway") else { return };
    let limited = format!("{disk} rbps=max wbps=5242880 riops=max wiops=max");
    state.launch("c1", &[]).good().unwrap();
    assert_eq!(limits(&state, "c1"), "");
    ok(&state, "profile device set default root limits.write=5MiB");
    assert_eq!(limits(&state, "c1"), limited);
    let shown = ok(&state, "run test -- cat /sys/fs/cgroup/io.max");
    assert_eq!(shown.trim(), limited);
    let plan = ok(&state, "config show c1 --plan");
    assert!(plan.contains("throttleWriteBpsDevice"), "{plan}");
    ok(&state, "profile device unset default root limits.write");
    assert_eq!(limits(&state, "c1"), "");
    state.finish();
}

#[test]
fn disk_limits_where_there_is_no_disk() {
    let Some((state, disk)) = on_a_disk("disk_limits_where_there_is_no_disk") else { return };
    state.launch("c1", &["-d", "root,limits.read=1MB"]).good().unwrap();
    let limited = format!("{disk} rbps=1000000 wbps=max riops=max wiops=max");
    let add = "config device add c1 t disk source=tmpfs: path=/t limits.read=1MB";
    let out = run(&state, add);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Invalid block device \"tmpfs\""), "{out}");
    assert_eq!((limits(&state, "c1"), state.sh("c1", "ls -d /t || echo none")), (limited.clone(), "none".into()));
    assert!(!ok(&state, "config show c1").contains("tmpfs"));
    // A folder of the host in memory is one, too.
    let out = run(&state, "config device add c1 p disk source=/proc path=/p limits.max=1MB");
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Invalid block device \"proc\""), "{out}");
    // One that can be limited and not mounted: what was written is taken back.
    let data = state.path("data");
    std::fs::create_dir(&data).unwrap();
    let add_below_a_file =
        format!("config device add c1 f disk source={} path=/etc/passwd/f limits.read=5MB", data.display());
    run(&state, &add_below_a_file).clean_failure().unwrap();
    assert_eq!(limits(&state, "c1"), limited);
    // One that does not run takes it and cannot be started.
    state.good(&["stop", "-f", "c1"]);
    ok(&state, add);
    let out = run(&state, "start c1");
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Failed to start device \"t\": Invalid block device \"tmpfs\""), "{out}");
    ok(&state, "config device unset c1 t limits.read");
    ok(&state, "start c1");
    assert_eq!(limits(&state, "c1"), limited);
    // One that need not be there has no device.
    let gone = state.path("gone");
    let add = format!("config device add c1 g disk source={} path=/g required=false limits.read=3MB", gone.display());
    ok(&state, &add);
    assert_eq!(limits(&state, "c1"), limited);
    state.finish();
}

/// A partition on a loop device with ext4 on it, mounted.
struct Partition {
    device: String,
    at: PathBuf,
}

impl Partition {
    fn new(state: &State) -> Self {
        let file = state.path("disk.img");
        // One entry of a partition table: 62 MiB of Linux behind the first.
        let mut table = [0u8; 512];
        table[446 + 4] = 0x83;
        table[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
        table[446 + 12..446 + 16].copy_from_slice(&(62u32 * 2048).to_le_bytes());
        table[510..].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&file, table).unwrap();
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(64 << 20).unwrap();
        let out = Command::new("losetup").args(["--partscan", "--find", "--show"]).arg(&file).output().unwrap();
        let partition = Self { device: String::from_utf8(out.stdout).unwrap().trim().into(), at: state.path("part") };
        let first = format!("{}p1", partition.device);
        until("the partition", || Path::new(&first).exists());
        std::fs::create_dir(&partition.at).unwrap();
        for (program, words) in [("mkfs.ext4", ["-q", "-F"]), ("mount", ["-t", "ext4"])] {
            let mut command = Command::new(program);
            command.args(words).arg(&first);
            if program == "mount" {
                command.arg(&partition.at);
            }
            assert!(command.status().unwrap().success(), "{program} {first}");
        }
        partition
    }

    /// Numbers of the whole device.
    fn whole(&self) -> String {
        let name = self.device.strip_prefix("/dev/").unwrap();
        std::fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_string()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Requests to read that a group has made of a device.
fn reads(state: &State, name: &str, device: &str) -> u64 {
    let text = std::fs::read_to_string(group(state, name).join("io.stat")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{device} ")));
    let count = |line: &str| line.split(' ').find_map(|word| word.strip_prefix("rios=")?.parse().ok());
    line.and_then(count).unwrap_or(0)
}

#[test]
fn disk_limits_hold_what_is_read() {
    let Some((state, disk)) = on_a_disk("disk_limits_hold_what_is_read") else { return };
    let partition = Partition::new(&state);
    let whole = partition.whole();
    std::fs::write(partition.at.join("file"), vec![7; 4 << 20]).unwrap();
    state.launch("c1", &[]).good().unwrap();
    let add = format!("config device add c1 data disk source={} path=/data limits.read=10iops", partition.at.display());
    ok(&state, &add);
    assert_eq!(limits(&state, "c1"), format!("{whole} rbps=max wbps=max riops=10 wiops=max"));
    state.sh("c1", "(dd if=/data/file of=/dev/null bs=4k iflag=direct && touch /tmp/read) >/dev/null 2>/tmp/said &");
    until("something to be read", || reads(&state, "c1", &whole) > 0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let slowly = reads(&state, "c1", &whole);
    assert!(slowly < 500, "{slowly} requests");
    // The root's own device has its own line.
    ok(&state, "config device override c1 root limits.write=9MB");
    let both = limits(&state, "c1");
    assert!(both.contains(&format!("{disk} rbps=max wbps=9000000")) && both.lines().count() == 2, "{both}");
    // Without the limit the rest comes at once.
    ok(&state, "config device unset c1 data limits.read");
    until("the rest", || state.try_sh("c1", "test -e /tmp/read").ok());
    assert!(reads(&state, "c1", &whole) >= 1024, "{}", state.sh("c1", "cat /tmp/said"));
    ok(&state, "config device remove c1 data");
    drop(partition);
    state.finish();
}

/// The device of the one line of `io.max`, below /sys/dev/block.
fn limited_device(state: &State, name: &str) -> PathBuf {
    let shown = limits(state, name);
    let (device, rest) = shown.split_once(' ').unwrap();
    assert_eq!(rest, "rbps=1000000 wbps=max riops=max wiops=max");
    Path::new("/sys/dev/block").join(device)
}

fn on_pool(test: &str, program: &str, create: &str, check: impl Fn(&State, &Path)) {
    let Some((state, _)) = on_a_disk(test) else { return };
    if !have(program) {
        skip(test, &format!("no {program}"));
        return;
    }
    let out = run(&state, create);
    if !out.ok() {
        skip(test, &format!("no such pool here: {out}"));
        return;
    }
    state.launch("c1", &["-s", "p", "-d", "root,limits.read=1MB"]).good().unwrap();
    check(&state, &limited_device(&state, "c1"));
    ok(&state, "config device unset c1 root limits.read");
    assert_eq!(limits(&state, "c1"), "");
    // A volume of the pool likewise.
    ok(&state, "storage volume create p v");
    ok(&state, "config device add c1 v disk pool=p source=v path=/v limits.read=1MB");
    check(&state, &limited_device(&state, "c1"));
    if !brief() {
        state.good(&["restart", "-f", "c1"]);
        check(&state, &limited_device(&state, "c1"));
    }
    ok(&state, "config device remove c1 v");
    assert_eq!(limits(&state, "c1"), "");
    ok(&state, "storage volume delete p v");
    ok(&state, "delete -f c1");
    ok(&state, "image delete test");
    ok(&state, "storage delete p");
    state.finish();
}

#[test]
fn disk_limits_on_lvm() {
    let create = "storage create p lvm size=512MiB volume.size=48MiB lvm.vg_name=stapestestlimits";
    on_pool("disk_limits_on_lvm", "lvm", create, |_, device| assert!(device.join("dm").exists(), "{device:?}"));
}

#[test]
fn disk_limits_on_btrfs() {
    let of_the_pool = |state: &State, device: &Path| {
        let file = std::fs::read_to_string(device.join("loop/backing_file")).unwrap();
        assert!(file.starts_with(&*state.dir.to_string_lossy()), "{file}");
    };
    on_pool("disk_limits_on_btrfs", "mkfs.btrfs", "storage create p btrfs size=512MiB", of_the_pool);
}

#[test]
fn disk_limits_on_zfs() {
    // The programs load the module where that is allowed to everybody only.
    let _ = Command::new("modprobe").arg("zfs").output();
    let there = |_: &State, device: &Path| assert!(device.join("dev").exists(), "{device:?}");
    on_pool("disk_limits_on_zfs", "zpool", "storage create p zfs size=512MiB", there);
}

/// Each of the devices of a btrfs is limited.
#[test]
fn disk_limits_on_two_devices() {
    const NAME: &str = "disk_limits_on_two_devices";
    let Some((state, _)) = on_a_disk(NAME) else { return };
    if !have("mkfs.btrfs") {
        skip(NAME, "no mkfs.btrfs");
        return;
    }
    let at = state.path("two");
    std::fs::create_dir(&at).unwrap();
    let script = "set -e; cd \"$1\"; truncate -s 200M a b; a=$(losetup -f --show a); b=$(losetup -f --show b)
        echo $a $b; mkfs.btrfs -q $a $b; btrfs device scan >/dev/null; mount -t btrfs $b two";
    let out = Command::new("sh").args(["-c", script, "sh"]).arg(&state.dir).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let said = String::from_utf8(out.stdout).unwrap();
    // What comes behind them is mkfs.btrfs's.
    let devices: Vec<&str> = said.lines().next().unwrap().split(' ').collect();
    state.launch("c1", &[]).good().unwrap();
    ok(&state, &format!("config device add c1 two disk source={} path=/two limits.read=7iops", at.display()));
    let shown = limits(&state, "c1");
    let number = |device: &str| {
        std::fs::read_to_string(format!("/sys/block/{}/dev", &device["/dev/".len()..])).unwrap().trim().to_string()
    };
    let mut wanted: Vec<String> =
        devices.iter().map(|device| format!("{} rbps=max wbps=max riops=7 wiops=max", number(device))).collect();
    let mut lines: Vec<&str> = shown.lines().collect();
    wanted.sort();
    lines.sort_unstable();
    assert_eq!(lines, wanted);
    ok(&state, "config device remove c1 two");
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    for device in devices {
        assert!(Command::new("losetup").args(["--detach", device]).status().unwrap().success());
    }
    state.finish();
}
