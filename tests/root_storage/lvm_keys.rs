//! Keys of pools in a volume group that volumes are made with, and that name what there is.
//! For the guest (`tests/guest/root-tier root_storage -- lvm_keys`).

use super::common_root;
use super::lvm::{group, lvm, state, volumes};
use super::support::{Device, More};

/// What the pool says when a volume is made is the volume's from then on.
#[test]
fn lvm_keys_are_filled_in() {
    let Some(state) = state("lvm_keys_are_filled_in") else { return };
    let group = group(&state, "fill");
    let own = "volume.size=48MiB volume.block.mount_options=noatime";
    state.ok(&format!("storage create p lvm size=512MiB lvm.vg_name={group} {own}"));
    let config = |volume: &str| {
        let shown = state.ok(&format!("storage volume show {volume}"));
        let lines = shown.lines().skip(1).take_while(|line| line.starts_with("  "));
        lines.map(|line| line.trim().replace(": ", "=")).collect::<Vec<_>>().join(" ")
    };
    state.ok("storage volume create p v");
    let first = "block.filesystem=ext4 block.mount_options=noatime size=48MiB";
    assert_eq!(config("p v"), first);
    state.ok("storage set p volume.block.mount_options=discard volume.size=32MiB");
    state.refuses("storage volume set p v block.filesystem=xfs", "\"block.filesystem\" property cannot be changed");
    state.ok("launch img c1 -s p");
    state.ok("storage volume attach p v c1 data /data");
    let mounts = state.sh("c1", "grep ' /data ' /proc/mounts").good().unwrap();
    assert!(mounts.contains("noatime"), "{mounts}");
    assert_eq!(config("p v"), first);
    // A disk has no file system; what comes from elsewhere gets what it lacks.
    state.ok("storage volume create p d --type=block size=1MiB");
    assert_eq!(config("p d"), "size=1MiB");
    state.ok("storage volume create default w");
    state.ok("storage volume copy default/w p/w");
    assert_eq!(config("p w"), "block.filesystem=ext4 block.mount_options=discard size=32MiB");
    state.ok("storage volume copy p/v p/v2");
    assert_eq!(config("p v2"), first);
    state.ok("storage volume copy p/v default/v");
    assert_eq!(config("default v"), "size=48MiB");
    state.ok("storage volume export default w w.tar");
    state.ok("storage volume import p w.tar w2");
    assert_eq!(config("p w2"), config("p w"));
    state.ok("delete -f c1");
    for volume in ["p v", "p d", "p w", "p v2", "p w2", "default v", "default w"] {
        state.ok(&format!("storage volume delete {volume}"));
    }
    state.finish(&["p"]);
}

/// The group and its thin pool get other names while instances run.
#[test]
fn lvm_keys_that_name_what_there_is() {
    let Some(state) = state("lvm_keys_that_name_what_there_is") else { return };
    let (old, new) = (group(&state, "old"), group(&state, "n-ew"));
    state.ok(&format!("storage create p lvm size=512MiB volume.size=48MiB lvm.vg_name={old}"));
    state.ok("launch img c1 -s p");
    state.ok("storage volume create p v size=24MiB");
    state.ok("storage volume attach p v c1 data /data");
    let works = |word: &str| {
        let script = format!("echo {word} >/root/x; echo {word} >/data/x; sync; cat /root/x /data/x");
        assert_eq!(state.sh("c1", &script).good().unwrap(), format!("{word}\n{word}\n"));
        state.ok(&format!("snapshot create c1 {word}"));
        state.doctor().unwrap();
    };
    state.ok(&format!("storage set p lvm.vg_name={new}"));
    assert!(volumes(&new).contains(&"IncusThinPool".to_string()));
    works("one");
    state.ok("storage set p lvm.thinpool_name=mine");
    assert!(volumes(&new).contains(&"mine".to_string()));
    works("two");
    state.ok("restart -f c1");
    works("three");
    state.ok("admin shutdown");
    state.ok("start c1");
    works("four");
    // All at once, and to what counts without a key.
    state.ok(&format!("storage set p lvm.vg_name={old} size=640MiB lvm.thinpool_name=other"));
    state.ok("storage unset p lvm.thinpool_name");
    assert!(
        volumes(&old).contains(&"IncusThinPool".to_string())
            && state.ok("storage show p --resources").contains("total: 6")
    );
    works("five");
    for (words, said) in [
        ("set p lvm.thinpool_name=containers_c1", "Invalid name \"containers_c1\""),
        ("unset p lvm.vg_name", "lvm.vg_name cannot be unset"),
        ("set p volume.lvm.stripes=2", "volume.lvm.stripes cannot be changed when using thin pool"),
        ("set p source=/dev/null", "Pool source cannot be changed when not in pending state"),
        ("set p lvm.metadata_size=2MiB", "lvm.metadata_size cannot be changed"),
    ] {
        state.refuses(&format!("storage {words}"), said);
    }
    state.ok("copy c1/two c2");
    state.ok("start c2");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "two\n");
    state.ok("delete -f c1 c2");
    state.ok("storage volume delete p v");
    state.finish(&["p"]);
}

/// A group that was there keeps its new name when the pool goes.
#[test]
fn lvm_keys_of_a_group_that_was_there() {
    let Some(state) = state("lvm_keys_of_a_group_that_was_there") else { return };
    let (old, new) = (group(&state, "was"), group(&state, "is"));
    let device = Device::new(&state, "disk");
    lvm(&format!("vgcreate {old} {}", device.shown()));
    lvm(&format!("lvcreate -y -n theirs -l 2 {old}"));
    state.ok(&format!(
        "storage create p lvm source={old} lvm.vg.force_reuse=true lvm.use_thinpool=false volume.size=24MiB"
    ));
    state.ok("launch img c1 -s p");
    state.ok("storage create q lvm size=256MiB");
    state.refuses("storage set p lvm.vg_name=q", "A volume group already exists called \"q\"");
    state.ok("storage delete q");
    state.ok(&format!("storage set p lvm.vg_name={new} lvm.thinpool_name=unused"));
    assert_eq!(state.ok("storage get p source"), format!("{new}\n"));
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    state.ok("start c1");
    state.ok("delete -f c1");
    state.finish(&["p"]);
    assert_eq!(volumes(&new), ["theirs"]);
    lvm(&format!("vgremove -y {new}"));
}

/// A root whose size its profile says is made smaller at the next start, as one of the instance's own.
#[test]
fn lvm_keys_of_a_profile_put_off() {
    let Some(state) = state("lvm_keys_of_a_profile_put_off") else { return };
    let group = group(&state, "off");
    state.ok(&format!("storage create p lvm size=768MiB volume.size=48MiB lvm.vg_name={group}"));
    state.ok("profile create sized");
    state.ok("profile device add sized root disk path=/ pool=p size=96MiB");
    let total = |name: &str| {
        let info = state.ok(&format!("storage volume info p container/{name}"));
        info.lines().find_map(|l| l.strip_prefix("Total: ").map(String::from)).unwrap_or(info)
    };
    let noted = |name: &str| state.ok(&format!("config get {name} volatile.root.apply_quota"));
    state.ok("launch img c1 -p sized");
    state.ok("create img c2 -p sized");
    assert_eq!((total("c1"), total("c2")), ("96.00MiB".into(), "96.00MiB".into()));
    state.ok("profile device set sized root size=64MiB");
    assert_eq!((total("c1"), total("c2")), ("96.00MiB".into(), "64.00MiB".into()));
    assert_eq!((noted("c1"), noted("c2")), ("true\n".into(), "\n".into()));
    // A copy has the new size at once, and nothing of it is noted.
    state.ok("copy c1 c3");
    assert_eq!((total("c3"), noted("c3")), ("64.00MiB".into(), "\n".into()));
    state.ok("restart -f c1");
    assert_eq!((total("c1"), noted("c1")), ("64.00MiB".into(), "\n".into()));
    // Growing again takes back what was put off.
    state.ok("profile device set sized root size=56MiB");
    assert_eq!(noted("c1"), "true\n");
    state.ok("profile device set sized root size=80MiB");
    assert_eq!((total("c1"), noted("c1")), ("80.00MiB".into(), "\n".into()));
    // The same by another profile, and by one that says no size.
    state.ok("profile copy sized small");
    state.ok("profile device set small root size=60MiB");
    state.ok("profile assign c1 small");
    assert_eq!((total("c1"), noted("c1")), ("80.00MiB".into(), "true\n".into()));
    state.ok("stop -f c1");
    state.ok("start c1");
    assert_eq!((total("c1"), noted("c1")), ("60.00MiB".into(), "\n".into()));
    state.sh("c1", "dd if=/dev/zero of=/root/big bs=1M count=4").good().unwrap();
    state.refuses("profile device set small root size=2MiB", "more than");
    assert_eq!(state.ok("profile device get small root size"), "60MiB\n");
    state.ok("delete -f c1 c2 c3");
    for profile in ["sized", "small"] {
        state.ok(&format!("profile delete {profile}"));
    }
    state.finish(&["p"]);
}

/// Killed on the way, the next command has all as it was.
#[test]
fn lvm_keys_of_what_was_killed() {
    let test = "lvm_keys_of_what_was_killed";
    let Some(bin) = common_root::faults_binary(test) else { return };
    let Some(mut state) = state(test) else { return };
    state.bin = bin;
    let names = ["one", "two"].map(|name| group(&state, name));
    let [old, new] = &names;
    state.ok(&format!("storage create p lvm size=256MiB volume.size=32MiB lvm.vg_name={old} lvm.thinpool_name=was"));
    state.ok("launch img c1 -s p");
    let words = format!("storage set p lvm.vg_name={new} lvm.thinpool_name=is");
    for point in ["kill:pool.group.renamed", "enospc:pool.thin.renamed", "kill:pool.thin.renamed", "kill:pool.recorded"]
    {
        let mut command = state.command(&words.split(' ').collect::<Vec<_>>());
        command.env("STAPES_FAULT", point);
        let out = common_root::run(command, None, common_root::PATIENCE);
        assert!(!out.ok(), "{point}: {out}");
        state.ok("admin maintain");
        let shown = ["vg_name", "thinpool_name"].map(|key| state.ok(&format!("storage get p lvm.{key}")));
        assert_eq!(shown, [format!("{old}\n"), "was\n".to_string()], "{point}");
        assert!(volumes(old).contains(&"was".to_string()), "{point}");
        state.sh("c1", &format!("echo {point} >/root/x; sync")).good().unwrap();
        state.doctor().unwrap();
    }
    state.ok(&words);
    assert!(volumes(new).contains(&"is".to_string()));
    state.ok("delete -f c1");
    state.finish(&["p"]);
}
