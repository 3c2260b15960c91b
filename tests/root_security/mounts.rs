//! Mounts of the host: systemd makes them shared, and what an instance mounts must not come through.

use crate::common_root::{self, PATIENCE, run};
use crate::support::{Ask, state};
use std::process::Command;

/// Started where all mounts of the host are shared, from each kind of root, an instance has no mount that is anybody's peer.
#[test]
fn no_mount_is_a_peer_of_the_hosts() {
    let Some(state) = state("no_mount_is_a_peer_of_the_hosts") else { return };
    let text = "storage_pools: [{name: plain, driver: dir}]\n";
    run(state.command(&["admin", "init", "--preseed"]), Some(text), PATIENCE).good().unwrap();
    std::fs::create_dir(state.path("shared")).unwrap();
    let source = format!("source={}", state.path("shared").display());
    for (name, options) in
        [("c1", &["-s", "plain"][..]), ("c2", &[]), ("c3", &["-s", "plain", "-c", "security.privileged=true"])]
    {
        state.good(&[&["create", "test", name], options].concat());
        state.good(&["config", "device", "add", name, "data", "disk", &source, "path=/mnt", "shift=true"]);
        // The monitor stays in there, as it would in the host's own namespace.
        let ours = state.command(&["start", name]);
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "shared"]).arg(ours.get_program()).args(ours.get_args());
        command.env_clear().envs(ours.get_envs().filter_map(|(k, v)| Some((k, v?)))).current_dir(&state.dir);
        let out = run(command, None, common_root::PATIENCE);
        out.good().unwrap_or_else(|e| panic!("{name}: {e}"));
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", state.init(name))).unwrap();
        let peers: Vec<&str> = mounts.lines().filter(|l| l.contains(" shared:") || l.contains(" master:")).collect();
        assert!(peers.is_empty(), "{name}: {peers:#?}");
        assert!(mounts.lines().count() > 5, "{mounts}");
        state.good(&["stop", "-f", name]);
    }
    state.finish();
}
