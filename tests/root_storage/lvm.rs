//! Pools in a volume group: thin and not, in a file, on a device, in a group that is there; used, put down and up again.
//! For the guest (`tests/guest/root-tier root_storage -- lvm`), where the machine's kernel has no device mapper.

use super::common_root::{self, State};
use super::recover::lost_and_found;
use super::support::{Device, More, state as any_state};
use std::path::Path;
use std::process::Command;

pub fn state(test: &str) -> Option<State> {
    let programs = ["lvm", "thin_check", "mkfs.xfs"].into_iter().all(common_root::have);
    if !(programs && Path::new("/sys/class/misc/device-mapper").exists()) {
        common_root::skip(test, "no device mapper (apt-get install lvm2 thin-provisioning-tools xfsprogs)");
        return None;
    }
    any_state(test, false)
}

/// What LVM says.
pub fn lvm(words: &str) -> String {
    let out = Command::new("lvm").args(words.split(' ')).output().unwrap();
    assert!(out.status.success(), "lvm {words}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

pub fn volumes(group: &str) -> Vec<String> {
    lvm(&format!("lvs --noheadings -o lv_name {group}")).split_whitespace().map(String::from).collect()
}

/// A name that no other test takes.
pub fn group(state: &State, name: &str) -> String {
    let last = state.dir.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    format!("{name}{}", &last[last.len().saturating_sub(8)..])
}

fn no_trace(state: &State, group: &str) {
    assert!(!lvm("vgs --noheadings -o vg_name").split_whitespace().any(|name| name == group), "{group}");
    let devices = Command::new("losetup").args(["-n", "-O", "BACK-FILE"]).output().unwrap();
    let disks = state.path("state/disks").display().to_string();
    assert!(!String::from_utf8_lossy(&devices.stdout).contains(&disks), "{devices:?}");
}

/// The whole life of instances and volumes.
fn life(state: &State, group: &str) {
    state.ok("launch img c1 -s p");
    state.ok("storage volume create p v size=24MiB");
    state.ok("storage volume attach p v c1 data /data");
    state.sh("c1", "echo one >/root/x; echo kept >/data/f").good().unwrap();
    state.ok("snapshot create c1 s1");
    state.ok("storage volume snapshot create p v s");
    state.sh("c1", "echo two >/root/x").good().unwrap();
    state.ok("copy c1/s1 c-2");
    state.ok("start c-2");
    assert_eq!(state.ok("exec c-2 -- cat /root/x"), "one\n");
    assert_eq!(state.ok("exec c1 -- cat /root/x"), "two\n");
    let all = volumes(group);
    for name in ["containers_c1", "containers_c1-s1", "containers_c--2", "custom_default_v", "custom_default_v-s"] {
        assert!(all.iter().any(|found| found == name), "{name}: {all:?}");
    }
    assert!(!all.iter().any(|name| name.starts_with("new_") || name.starts_with("trash_")), "{all:?}");
    state.ok("stop -f c1 c-2");
    state.ok("snapshot restore c1 s1");
    state.ok("rename c-2 c2");
    // As after a boot.
    state.ok("admin shutdown");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&state.dir.display().to_string()), "{mounts}");
    assert!(!Path::new("/dev/mapper").join(format!("{group}-containers_c1")).exists());
    state.ok("list");
    state.ok("start c1 c2");
    assert_eq!(state.ok("exec c1 -- cat /root/x /data/f"), "one\nkept\n");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.doctor().unwrap();
    state.ok("delete -f c1 c2");
    state.ok("storage volume delete p v");
}

#[test]
fn lvm_thin_in_a_file() {
    let Some(state) = state("lvm_thin_in_a_file") else { return };
    let group = group(&state, "thin");
    state.ok(&format!("storage create p lvm size=512MiB volume.size=48MiB lvm.vg_name={group}"));
    state.refuses("storage set p lvm.use_thinpool=false", "lvm.use_thinpool cannot be changed");
    state.refuses("storage set p size=256MiB", "Pool cannot be shrunk");
    life(&state, &group);
    let image = volumes(&group).into_iter().filter(|name| name.starts_with("images_")).count();
    assert_eq!(image, 1, "an image is unpacked once");
    state.ok("storage set p size=768MiB");
    assert!(state.ok("storage show p --resources").contains("total: 7"));
    state.ok("image delete img");
    state.ok("storage delete p");
    no_trace(&state, &group);
    state.finish(&[]);
}

#[test]
fn lvm_plain_in_a_file_and_xfs() {
    let Some(state) = state("lvm_plain_in_a_file_and_xfs") else { return };
    let group = group(&state, "plain");
    let create = format!("storage create p lvm size=1GiB lvm.use_thinpool=false lvm.vg_name={group}");
    state.ok(&format!("{create} volume.size=48MiB"));
    life(&state, &group);
    state.refuses("create img c1 -s p -d root,size=4GiB", "insufficient free space");
    assert_eq!(volumes(&group).len(), 1, "the mark");
    state.ok("storage set p volume.block.filesystem=xfs volume.size=320MiB");
    state.ok("launch img c1 -s p");
    assert!(state.sh("c1", "mount | grep ' / '").good().unwrap().contains(" xfs "));
    state.ok("config device set c1 root size=400MiB");
    state.ok("stop -f c1");
    state.refuses("config device set c1 root size=330MiB", "Filesystem \"xfs\" cannot be shrunk");
    state.ok("delete c1");
    state.ok("storage delete p");
    no_trace(&state, &group);
    state.finish(&[]);
}

#[test]
fn lvm_sizes() {
    let Some(state) = state("lvm_sizes") else { return };
    let group = group(&state, "sizes");
    state.ok(&format!("storage create p lvm size=512MiB volume.size=48MiB lvm.vg_name={group}"));
    let total = |name: &str| {
        let info = state.ok(&format!("storage volume info p {name}"));
        info.lines().find_map(|l| l.strip_prefix("Total: ").map(String::from)).unwrap_or(info)
    };
    state.ok("launch img c1 -s p -d root,size=64MiB");
    assert_eq!(total("container/c1"), "64.00MiB");
    state.sh("c1", "dd if=/dev/zero of=/root/big bs=1M count=4").good().unwrap();
    state.ok("config device set c1 root size=96MiB");
    assert_eq!(total("container/c1"), "96.00MiB");
    state.sh("c1", "dd if=/dev/zero of=/root/more bs=1M count=70; sync").good().unwrap();
    assert!(!state.sh("c1", "dd if=/dev/zero of=/root/most bs=1M count=30").ok(), "it is full");
    state.sh("c1", "rm /root/mo*").good().unwrap();
    // Less cannot be done while it runs: it is at the next start.
    state.ok("config device set c1 root size=80MiB");
    assert_eq!(total("container/c1"), "96.00MiB");
    assert_eq!(state.ok("config get c1 volatile.root.apply_quota"), "true\n");
    state.refuses("config device set c1 root size=2MiB", "more than");
    state.ok("restart -f c1");
    assert_eq!(total("container/c1"), "80.00MiB");
    assert_eq!(state.ok("config get c1 volatile.root.apply_quota"), "\n");
    state.ok("stop -f c1");
    state.refuses("config device set c1 root size=2MiB", "more than");
    state.ok("config device set c1 root size=76MiB");
    assert_eq!(total("container/c1"), "76.00MiB");
    state.ok("start c1");
    state.sh("c1", "test $(stat -c %s /root/big) = 4194304").good().unwrap();
    state.ok("delete -f c1");
    // Smaller than the image's.
    state.ok("create img c2 -s p -d root,size=32MiB");
    assert_eq!(total("container/c2"), "32.00MiB");
    state.finish(&["p"]);
}

#[test]
fn lvm_on_a_device_that_is_empty() {
    let Some(state) = state("lvm_on_a_device_that_is_empty") else { return };
    let group = group(&state, "dev");
    let device = Device::new(&state, "disk");
    device.mkfs("ext4");
    let create = format!("storage create p lvm volume.size=48MiB lvm.vg_name={group} source={}", device.shown());
    state.refuses(&create, "isn't empty\nset source.wipe=true");
    let found = Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&device.path).output().unwrap();
    assert_eq!(found.stdout, b"ext4\n", "nothing was done to it");
    no_trace(&state, &group);
    state.ok(&format!("{create} source.wipe=true"));
    state.refuses(&format!("storage create q lvm source={}", device.shown()), "is in use by storage pool \"p\"");
    state.ok("launch img c1 -s p");
    state.ok("delete -f c1");
    state.ok("storage delete p");
    no_trace(&state, &group);
    // It is empty again. One of somebody's group is nobody's to take, not even by force.
    let foreign = format!("{group}x");
    lvm(&format!("vgcreate {foreign} {}", device.shown()));
    state.refuses(&format!("{create} source.wipe=true"), &format!("is in the volume group \"{foreign}\""));
    lvm(&format!("vgremove {foreign}"));
    state.ok(&create);
    state.finish(&["p"]);
}

#[test]
fn lvm_in_a_group_that_is_there() {
    let Some(state) = state("lvm_in_a_group_that_is_there") else { return };
    let group = group(&state, "own");
    let device = Device::new(&state, "disk");
    state.refuses(&format!("storage create p lvm source={group}"), "does not exist");
    lvm(&format!("vgcreate {group} {}", device.shown()));
    lvm(&format!("lvcreate -y -n theirs -l 2 {group}"));
    state.refuses(&format!("storage create p lvm source={group}"), "is not empty");
    state.refuses(&format!("storage create p lvm lvm.vg_name={group}"), "A volume group already exists called");
    assert_eq!(volumes(&group), ["theirs"]);
    state.ok(&format!("storage create p lvm source={group} lvm.vg.force_reuse=true volume.size=48MiB"));
    state.refuses(&format!("storage create q lvm source={group} lvm.vg.force_reuse=true"), "in use");
    state.ok("launch img c1 -s p");
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    assert!(Path::new("/dev/mapper").join(format!("{group}-theirs")).exists(), "not ours to put down");
    state.ok("start c1");
    state.ok("delete -f c1");
    state.ok("storage delete p");
    assert_eq!(volumes(&group), ["theirs"]);
    assert_eq!(lvm(&format!("vgs --noheadings -o vg_tags {group}")).trim(), "");
    lvm(&format!("vgremove -f -y {group}"));
    lvm(&format!("pvremove -y {}", device.shown()));
    state.finish(&[]);
}

#[test]
fn lvm_volumes_have_options_of_their_own() {
    let Some(state) = state("lvm_volumes_have_options_of_their_own") else { return };
    let group = group(&state, "opt");
    state.ok(&format!("storage create p lvm size=512MiB volume.size=48MiB lvm.vg_name={group}"));
    state.refuses("storage volume create default v block.filesystem=xfs", "option \"block.filesystem\"");
    state.refuses("storage volume create p v block.filesystem=vfat", "block.filesystem");
    state.ok("storage volume create p v block.filesystem=xfs size=320MiB");
    state.ok("storage volume create p w");
    state.refuses("storage volume set p v block.filesystem=ext4", "\"block.filesystem\" property cannot be changed");
    state.ok("launch img c1 -s p");
    for name in ["v", "w"] {
        state.ok(&format!("storage volume attach p {name} c1 {name} /{name}"));
    }
    let mounts = state.sh("c1", "grep -E ' /[vw]? ' /proc/mounts; echo kept >/v/f").good().unwrap();
    let kind = |at: &str| mounts.lines().find_map(|l| l.split_once(&format!(" {at} "))?.1.split(' ').next());
    assert_eq!([kind("/"), kind("/v"), kind("/w")], [Some("ext4"), Some("xfs"), Some("ext4")], "{mounts}");
    // Elsewhere it is of no meaning. Its size is kept there.
    state.ok("storage create b btrfs size=256MiB");
    state.ok("storage volume copy p/v b/v");
    assert_eq!(state.ok("storage volume get b v block.filesystem"), "");
    assert!(state.ok("storage volume file pull b v/f -").contains("kept"));
    state.ok("storage volume delete b v");
    state.ok("storage delete b");
    // Where none is kept its record has it still.
    state.ok("storage volume copy p/v default/v");
    assert_eq!(state.ok("storage volume get default v size"), "320MiB\n");
    assert!(state.ok("storage volume file pull default v/f -").contains("kept"));
    state.ok("storage volume delete default v");
    state.ok("delete -f c1");
    state.ok("storage volume delete p v");
    state.ok("storage volume delete p w");
    // Stripes need as many disks.
    let plain = self::group(&state, "str");
    let devices = ["one", "two"].map(|name| Device::new(&state, name));
    lvm(&format!("vgcreate {plain} {} {}", devices[0].shown(), devices[1].shown()));
    state.ok(&format!("storage create q lvm source={plain} lvm.use_thinpool=false volume.size=48MiB"));
    state.ok("storage volume create q v lvm.stripes=2 lvm.stripes.size=64KiB");
    state.ok("storage volume create q w");
    let shown = lvm(&format!("lvs --noheadings --units k -o lv_name,stripes,stripe_size {plain}"));
    let line = |name: &str| shown.lines().find(|l| l.contains(name)).unwrap_or_default().split_whitespace().nth(1);
    assert_eq!([line("custom_default_v"), line("custom_default_w")], [Some("2"), Some("1")], "{shown}");
    assert!(shown.contains("64.00k"), "{shown}");
    state.ok("storage volume delete q v");
    state.ok("storage volume delete q w");
    state.ok("storage delete q");
    lvm(&format!("vgremove {plain}"));
    state.finish(&["p"]);
}

/// What is made of a file system and how it is mounted, by volume.
#[test]
fn lvm_mkfs_and_mounts_by_volume() {
    let Some(state) = state("lvm_mkfs_and_mounts_by_volume") else { return };
    let group = group(&state, "mnt");
    state.ok(&format!("storage create p lvm size=256MiB volume.size=32MiB lvm.vg_name={group}"));
    for bad in ["-F", "-d name=x", "-J device=x", "-b", "-E offset=1,stride=2", "-N /etc"] {
        let out = state.run(&["storage", "volume", "create", "p", "v", &format!("block.create_options={bad}")]);
        assert!(!out.ok() && out.stderr.contains("block.create_options\""), "{bad}: {out}");
    }
    let options = ["block.create_options=-N 64 -m 0", "block.mount_options=noatime,discard"];
    state.good(&[&["storage", "volume", "create", "p", "v"], &options[..]].concat());
    state.refuses("storage volume set p v block.create_options=", "cannot be changed after creation");
    let device = format!("/dev/mapper/{group}-custom_default_v");
    let made = Command::new("dumpe2fs").args(["-h", &device]).output().unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let inodes = made.lines().find_map(|l| l.strip_prefix("Inode count:")?.trim().parse::<u32>().ok());
    assert!(inodes.is_some_and(|n| n <= 128), "{made}");
    let mount = |option: &str| {
        state.ok("storage volume info p v");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|l| l.starts_with(&device)).unwrap_or_default();
        assert!(line.contains(option), "{option}: {line:?}");
    };
    mount("noatime");
    state.ok("storage volume set p v block.mount_options=nodiratime");
    state.ok("admin shutdown");
    state.ok("create img c1 -s p");
    mount("nodiratime,relatime");
    state.ok("storage volume delete p v");
    state.finish(&["p"]);
}

/// Disks and discs: as files with room for all of them, thin or not.
#[test]
fn lvm_disks() {
    let Some(state) = state("lvm_disks") else { return };
    let group = group(&state, "disk");
    state.ok(&format!("storage create p lvm size=512MiB lvm.vg_name={group}"));
    state.ok(&format!("storage create q lvm size=768MiB lvm.vg_name={group}q lvm.use_thinpool=false"));
    let path = |pool: &str, name: &str| state.path(&format!("state/pools/{pool}/data/custom/default_{name}/root.img"));
    let fill = |pool: &str, name: &str, megabytes: u32| {
        // Has it mounted.
        state.ok(&format!("storage volume info {pool} {name}"));
        let (out, count) = (format!("of={}", path(pool, name).display()), format!("count={megabytes}"));
        let done = Command::new("dd").args(["if=/dev/urandom", &out, "bs=1M", "conv=notrunc,fsync", &count]).output();
        assert!(done.as_ref().unwrap().status.success(), "{pool} {name}: {done:?}");
    };
    let read = |pool: &str, name: &str| {
        state.ok(&format!("storage volume info {pool} {name}"));
        std::fs::read(path(pool, name)).unwrap()
    };
    let len = |pool: &str, name: &str| read(pool, name).len() >> 20;
    for (pool, size, larger) in [("p", 40, 160), ("q", 24, 48)] {
        let on = |words: &str| state.ok(&format!("storage volume {words}").replace("POOL", pool));
        on(&format!("create POOL d --type=block size={size}MiB"));
        // Whatever it is full of.
        fill(pool, "d", size);
        on("snapshot create POOL d s");
        on(&format!("set POOL d size={larger}MiB"));
        assert_eq!(len(pool, "d"), larger as usize);
        fill(pool, "d", larger);
        state.ok("admin shutdown");
        on("copy POOL/d/s POOL/e");
        fill(pool, "e", size);
        on("copy POOL/d default/f --volume-only");
        assert!(read(pool, "d") == read("default", "f"));
        on("snapshot restore POOL d s");
        assert_eq!(len(pool, "d"), larger as usize);
        fill(pool, "d", larger);
        on("copy default/f POOL/d --refresh --volume-only");
        assert!(read(pool, "d") == read("default", "f"));
        on("export POOL e e.tar --compression none --force");
        on("delete POOL e");
        on("delete POOL d");
        on("import POOL e.tar g");
        assert_eq!(len(pool, "g"), size as usize);
        fill(pool, "g", size);
        std::fs::write(state.path("disc.iso"), vec![7; 3 << 20]).unwrap();
        on("import POOL disc.iso disc --type=iso");
        assert!(read(pool, "disc") == vec![7; 3 << 20]);
        on("delete POOL g");
        on("delete POOL disc");
        state.ok("storage volume delete default f");
        state.doctor().unwrap();
    }
    state.finish(&["p", "q"]);
}

/// Neither the names of volumes nor the copies of records are in the state folder.
#[test]
fn lvm_is_recovered_from_a_device() {
    let Some(state) = state("lvm_is_recovered_from_a_device") else { return };
    let device = Device::new(&state, "disk");
    lost_and_found(state, "lvm", &device.shown(), "volume.size=48MiB");
}

#[test]
fn lvm_is_recovered_from_a_group() {
    let Some(state) = state("lvm_is_recovered_from_a_group") else { return };
    let group = group(&state, "lost");
    let device = Device::new(&state, "disk");
    lvm(&format!("vgcreate {group} {}", device.shown()));
    // Nobody's thin pool, by the name that ours has as a rule.
    lvm(&format!("lvcreate -y --type thin-pool -L 8m -n IncusThinPool {group}"));
    let own = "lvm.vg.force_reuse=true lvm.use_thinpool=false volume.size=24MiB";
    state.refuses(&format!("storage create p lvm source={group} lvm.vg.force_reuse=true"), "IncusThinPool\" already");
    state.ok(&format!("storage create p lvm source={group} {own}"));
    state.ok("storage volume create p v user.a=1");
    state.ok("create img c1 -s p");
    state.ok("admin shutdown");
    std::fs::remove_dir_all(state.path("state")).unwrap();
    state.preseed();
    let answers = |source: &str| format!("yes\np\nlvm\n{source}\n\nno\nyes\nyes\n");
    let wrong = state.given("admin recover", &answers("nosuchgroup"));
    assert!(wrong.stderr.contains("\"nosuchgroup\" holds no storage pool"), "{wrong}");
    state.given("admin recover", &answers(&group)).good().unwrap();
    assert_eq!(state.ok("storage volume get p v user.a"), "1\n");
    assert_eq!(state.ok("storage get p lvm.use_thinpool"), "false\n");
    state.ok("start c1");
    state.doctor().unwrap();
    state.ok("delete -f c1");
    state.ok("storage volume delete p v");
    state.ok("storage delete p");
    assert_eq!(volumes(&group), ["IncusThinPool"]);
    lvm(&format!("vgremove -f -y {group}"));
    lvm(&format!("pvremove -y {}", device.shown()));
    state.finish(&[]);
}

/// A thin pool without room: what needs some says so at once, what makes room works, and afterwards all does.
#[test]
fn lvm_that_is_full() {
    let Some(state) = state("lvm_that_is_full") else { return };
    let group = group(&state, "full");
    state.ok(&format!("storage create p lvm size=256MiB volume.size=512MiB lvm.vg_name={group}"));
    state.ok("create img c2 -s p");
    state.ok("launch img c1 -s p");
    state.ok("storage volume create p v");
    // What it writes does not fit; that its writes are lost is told by sync, if at all.
    let _ = state.sh("c1", "dd if=/dev/zero of=/root/big bs=1M count=300; sync");
    let shown = state.ok("storage info p --bytes");
    eprintln!("{shown}");
    let begun = std::time::Instant::now();
    for words in ["create img c3 -s p", "snapshot create c2 s1", "copy c2 c4", "storage volume create p w"] {
        let out = state.words(words);
        eprintln!("{out}");
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("is full"), "{words}: {out}");
    }
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
    for words in ["list", "info c1", "storage info p", "storage volume list p", "config set c2 user.a=1", "stop -f c1"]
    {
        state.ok(words);
    }
    state.ok("delete c1");
    state.ok("launch img c3 -s p");
    state.ok("start c2");
    state.ok("snapshot create c2 s1");
    state.doctor().unwrap();
    state.ok("storage volume delete p v");
    state.finish(&["p"]);
}
