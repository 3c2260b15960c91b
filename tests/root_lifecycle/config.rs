//! What configuration does to a container: environment, sysctls, limits, ids, privilege, nesting; and what is refused.

use crate::common_root::State;
use crate::support::{Ask, lives, state};

/// The first line of a map as the host sees it: inside, outside, length.
fn map(state: &State, name: &str, file: &str) -> Vec<Vec<u64>> {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", state.init(name))).unwrap();
    text.lines().map(|l| l.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect()
}

#[test]
fn kernel_settings() {
    let Some(state) = state("kernel_settings") else { return };
    let options = [
        "environment.FOO=of the config",
        "linux.sysctl.net.ipv4.ip_forward=1",
        "linux.sysctl.kernel.shmmax=123456",
        "limits.kernel.nofile=100:200",
        "limits.kernel.core=0",
        "limits.memory.oom_priority=7",
    ];
    let flags: Vec<&str> = options.iter().flat_map(|o| ["-c", o]).collect();
    state.launch("c1", &flags).good().unwrap();
    assert_eq!(state.sh("c1", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax"), "1\n123456");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|t| t.trim() == "1"),
        host_forwards()
    );
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", state.init("c1"))).unwrap();
    let line = |name: &str| {
        limits.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(line("Max open files")[3..5], ["100", "200"]);
    assert_eq!(line("Max core file size")[4..6], ["0", "0"]);
    let environ = std::fs::read_to_string(format!("/proc/{}/environ", state.init("c1"))).unwrap();
    assert!(environ.contains("FOO=of the config\0") && environ.contains("container=lxc"), "{environ:?}");
    assert!(!environ.contains("STAPES") && !environ.contains("PATH=/root"), "{environ:?}");
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", state.init("c1"))).unwrap();
    assert_eq!(score.trim(), "7");
    assert_eq!(state.sh("c1", "hostname; ip -o link | grep -c ."), "c1\n1");
    let plan = state.good(&["config", "show", "c1", "--plan"]);
    assert!(plan.contains("\nname: c1\n") && plan.contains("kernel.shmmax: \"123456\""), "{plan}");
    for bad in ["linux.sysctl.kernel.core_pattern=|/bin/x", "linux.sysctl.vm.swappiness=1"] {
        let out = state.run(&["launch", "test", "c2", "-c", bad]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("sys/"), "{out}");
        state.run(&["delete", "-f", "c2"]);
    }
    state.finish();
}

fn host_forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|t| t.trim() == "1")
}

#[test]
fn ids_unprivileged_isolated_and_raw() {
    let Some(state) = state("ids_unprivileged_isolated_and_raw") else { return };
    for name in ["plain", "other"] {
        state.launch(name, &[]).good().unwrap();
    }
    for name in ["alone1", "alone2"] {
        state.launch(name, &["-c", "security.idmap.isolated=true"]).good().unwrap();
    }
    state.launch("raw", &["-c", "raw.idmap=both 1000 1000"]).good().unwrap();
    let plain = map(&state, "plain", "uid_map");
    assert!(plain.len() == 1 && plain[0][0] == 0 && plain[0][1] >= 65536, "{plain:?}");
    assert_eq!(map(&state, "other", "uid_map"), plain);
    assert_eq!(map(&state, "plain", "gid_map"), plain);
    let (one, two) = (map(&state, "alone1", "uid_map"), map(&state, "alone2", "uid_map"));
    assert!(one.len() == 1 && two.len() == 1 && one[0][2] == 65536 && two[0][2] == 65536, "{one:?} {two:?}");
    assert!(one[0][1] + 65536 <= two[0][1] || two[0][1] + 65536 <= one[0][1], "they share ids: {one:?} {two:?}");
    assert!(one[0][1] >= plain[0][1] + 65536);
    let raw = map(&state, "raw", "uid_map");
    assert!(raw.contains(&vec![1000, 1000, 1]) && raw.len() == 3, "{raw:?}");
    // Files keep the ids of the image on disk, whoever looks.
    for name in ["plain", "alone1", "alone2", "raw"] {
        assert_eq!(state.sh(name, "stat -c %u:%g /bin/busybox; touch /root/new; stat -c %u /root/new"), "0:0\n0");
        assert_eq!(state.sh(name, "id -u"), "0");
    }
    // The range stays its own over a restart, and is free again when it is gone.
    state.good(&["restart", "-f", "alone1"]);
    assert_eq!(map(&state, "alone1", "uid_map"), one);
    assert!(lives(state.init("alone2")));
    state.finish();
}

#[test]
fn privileged() {
    let Some(state) = state("privileged") else { return };
    state.launch("c1", &["-c", "security.privileged=true"]).good().unwrap();
    assert_eq!(map(&state, "c1", "uid_map"), [[0, 0, 4_294_967_295]]);
    let capabilities = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | cut -f2";
    let inside = state.sh("c1", capabilities);
    let init = std::fs::read_to_string(format!("/proc/{}/status", state.init("c1"))).unwrap();
    let init: Vec<&str> =
        init.lines().filter(|l| l.starts_with("Cap")).map(|l| l.split('\t').nth(1).unwrap()).collect();
    assert_eq!(inside.lines().collect::<Vec<_>>(), init, "exec and start agree");
    let effective = u64::from_str_radix(init[2], 16).unwrap();
    for (name, bit) in [("sys_module", 16), ("sys_rawio", 17), ("sys_time", 25)] {
        assert_eq!(effective & (1 << bit), 0, "{name}");
    }
    // Only whoever has a policy namespace of its own may load policy.
    let own_policy = std::fs::read_to_string("/sys/kernel/security/apparmor/features/domain/stack");
    for (name, bit) in [("mac_override", 32), ("mac_admin", 33)] {
        assert_eq!(effective & (1 << bit) != 0, own_policy.as_ref().is_ok_and(|t| t.trim() == "yes"), "{name}");
    }
    assert!(effective & (1 << 21) != 0, "sys_admin stays");
    // The kernel's knobs can only be read; the host's devices cannot be opened though their nodes can be made.
    assert!(!state.try_sh("c1", "echo 1 > /proc/sys/kernel/panic").ok());
    assert!(!state.try_sh("c1", "echo h > /proc/sysrq-trigger").ok());
    // But those of its own network.
    let hosts = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    let before = hosts();
    let ttl = "/proc/sys/net/ipv4/ip_default_ttl";
    assert_eq!(state.sh("c1", &format!("echo 77 >{ttl} && cat {ttl}")), "77");
    assert_eq!(hosts(), before);
    assert!(!state.try_sh("c1", "mount -o remount,rw /sys/kernel 2>/dev/null; echo x > /sys/kernel/profiling").ok());
    assert!(!state.try_sh("c1", "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem").ok());
    assert!(!state.try_sh("c1", "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk").ok());
    assert_eq!(state.sh("c1", "mknod /tmp/zero c 1 5 && head -c 2 /tmp/zero | wc -c"), "2");
    state.finish();
}

#[test]
fn nesting() {
    let Some(state) = state("nesting") else { return };
    state.launch("c1", &["-c", "security.nesting=true"]).good().unwrap();
    assert_eq!(state.sh("c1", "grep -cE ' /dev/.lxc/(proc|sys) ' /proc/mounts"), "2");
    // A container in the container needs a fully visible procfs.
    assert_eq!(state.sh("c1", "unshare -Urpmf sh -c 'mount -t proc none /proc && echo $$'"), "1");
    state.finish();
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let Some(state) = state("what_cannot_be_honoured_is_refused") else { return };
    let nic = state.run(&[
        "launch",
        "test",
        "c1",
        "-d",
        "eth0,type=nic",
        "-d",
        "eth0,nictype=sriov",
        "-d",
        "eth0,parent=br0",
    ]);
    nic.clean_failure().unwrap();
    assert!(nic.stderr.contains("Parent device \"br0\" doesn't exist"), "{nic}");
    state.run(&["delete", "-f", "c1"]);
    for bad in [
        "raw.lxc=lxc.include=/etc/passwd",
        "security.syscalls.intercept.mount=true",
        "no.such.key=1",
        "security.privileged=perhaps",
    ] {
        let out = state.run(&["launch", "test", "c1", "-c", bad]);
        out.clean_failure().unwrap();
        state.run(&["delete", "-f", "c1"]);
    }
    state.finish();
}

/// `-t`: CPUs and memory by one word; and that nobody has used it yet.
#[test]
fn instance_types() {
    let Some(state) = state("instance_types") else { return };
    state.good(&["create", "test", "c1", "-t", "c0.5-m0.2"]);
    let get = |name: &str, key: &str| state.good(&["config", "get", name, key]);
    assert_eq!(get("c1", "limits.cpu"), "1\n");
    assert_eq!(get("c1", "limits.cpu.allowance"), "50%\n");
    assert_eq!(get("c1", "limits.memory"), "204MiB\n");
    state.good(&["create", "test", "c2", "--type=c1-m2", "-c", "limits.cpu=0-0"]);
    assert_eq!((get("c2", "limits.cpu"), get("c2", "limits.memory")), ("0-0\n".into(), "2048MiB\n".into()));
    for (bad, why) in
        [("t2.micro", "Provided instance type doesn't exist: t2.micro"), ("cx", "Bad custom instance type")]
    {
        let out = state.run(&["launch", "test", "c3", "-t", bad]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(why), "{out}");
    }
    // The size of the root disk, where the pool's file system can keep one.
    let sized = state.run(&["create", "test", "c4", "-t", "c1-d1"]);
    if sized.code() == Some(0) {
        assert_eq!(state.good(&["config", "device", "get", "c4", "root", "size"]), "1073741824B\n");
        state.good(&["delete", "c4"]);
    } else {
        assert!(sized.stderr.contains("Failed setting the size of volume \"c4\""), "{sized}");
    }
    let used =
        |name: &str| state.good(&["list", name, "-f", "json"]).contains(r#""last_used_at":"1970-01-01T00:00:00Z""#);
    assert!(used("c2") && !state.good(&["info", "c2"]).contains("Last Used"));
    state.launch("c3", &[]).good().unwrap();
    assert!(!used("c3") && state.good(&["info", "c3"]).contains("Last Used"));
    state.good(&["delete", "-f", "c1", "c2", "c3"]);
    state.finish();
}
