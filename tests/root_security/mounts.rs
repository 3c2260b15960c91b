//! Mounts of the host: systemd makes them shared, and what an instance mounts must not come through. Mounts of an instance: what it
//! puts in the way of a command of the host is no way to what it has no rights over.

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

/// A setting of the kernel that has had no effect since Linux 5.18.
const SETTING: &str = "/proc/sys/kernel/random/write_wakeup_threshold";

/// Row CVE-2018-15664, by mounts in place of links: `file` does nothing for an instance that its own root could not do.
#[test]
fn cve_2018_15664_files_below_an_instances_mounts() {
    let Some(state) = state("cve_2018_15664_files_below_an_instances_mounts") else { return };
    let host = state.path("host");
    std::fs::create_dir_all(host.join("folder")).unwrap();
    for name in ["secret", "folder/kept"] {
        std::fs::write(host.join(name), "of the host").unwrap();
        std::fs::set_permissions(host.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    std::fs::write(state.path("pushed"), "4096\n").unwrap();
    let (source, pushed) = (format!("source={}", host.display()), state.path("pushed"));
    let pushed = pushed.to_str().unwrap();
    let setting = std::fs::read(SETTING).unwrap();
    for privileged in [false, true] {
        state.launch("c1", if privileged { &["-c", "security.privileged=true"] } else { &[] }).good().unwrap();
        state.good(&["config", "device", "add", "c1", "src", "disk", &source, "path=/mnt"]);
        let script = format!(
            "cd /root; busybox mkdir d p w; busybox touch k s; for m in '{SETTING} k' '/mnt/secret s' '/mnt/folder d' '/mnt w'; do busybox mount --bind $m || exit 9; done; \
             busybox mount -t cgroup2 none p"
        );
        let mounted = state.run(&["exec", "c1", "--", "sh", "-c", &script]);
        if privileged && !mounted.ok() {
            // Its AppArmor profile is in the way.
            state.good(&["delete", "-f", "c1"]);
            continue;
        }
        mounted.good().unwrap();
        let refused = |args: &[&str]| {
            let out = state.run(args);
            out.clean_failure().unwrap();
            assert!(out.stderr.contains("Permission denied") || out.stderr.contains("mounted there"), "{out}");
        };
        for to in ["c1/root/k", "c1/root/p/cgroup.procs"] {
            refused(&["file", "push", pushed, to]);
            refused(&["file", "push", pushed, to, "--mode", "777"]);
        }
        refused(&["file", "create", "-t", "directory", "c1/root/p/new"]);
        assert_eq!(std::fs::read(SETTING).unwrap(), setting);
        // Root of a privileged instance is the host's, and has what is shared with it.
        if !privileged {
            refused(&["file", "pull", "c1/root/s", "-"]);
            refused(&["file", "push", pushed, "c1/root/s"]);
            refused(&["file", "push", pushed, "c1/root/w/new"]);
            refused(&["file", "create", "-t", "symlink", "c1/root/w/new", "x"]);
            refused(&["file", "create", "-t", "directory", "c1/root/w/new"]);
            refused(&["file", "delete", "c1/root/w/secret"]);
        }
        refused(&["file", "delete", "-f", "c1/root/d"]);
        refused(&["file", "delete", "-f", "c1/root"]);
        assert_eq!(std::fs::read(host.join("secret")).unwrap(), b"of the host");
        assert_eq!(std::fs::read(host.join("folder/kept")).unwrap(), b"of the host");
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 2);
        // What is its own goes on working, in what is mounted, too.
        state.good(&["file", "push", pushed, "c1/dev/shm/a"]);
        assert_eq!(state.good(&["file", "pull", "c1/dev/shm/a", "-"]), "4096\n");
        assert!(state.good(&["file", "pull", "c1/proc/version", "-"]).starts_with("Linux"));
        state.good(&["delete", "-f", "c1"]);
    }
    state.finish();
}
