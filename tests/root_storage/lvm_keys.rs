//! Keys of pools in a volume group that volumes are made with, and that name what there is.
//! For the guest (`tests/guest/root-tier root_storage -- lvm_keys`).

use super::lvm::{group, state};
use super::support::More;

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
