//! What the kernel lets an instance do: cgroups, system calls, devices; and what we open to the outside.

use crate::support::{Ask, lives};
use crate::tools::probed;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Writes nothing, and then a word, to every file of the folder; says what could be opened and what took it.
const WRITE_ALL: &str = r#"cd /sys/fs/cgroup; for f in *; do
    [ -f $f ] || continue; (: >> $f) 2>/dev/null && echo open $f
    case $f in cgroup.procs|cgroup.threads|cgroup.subtree_control) ;; *)
        for word in 0 1 max; do (echo $word > $f) 2>/dev/null && echo took $f; done
    esac
done; true"#;

/// Mounts the hierarchy $1 with options $2 and says what in it can be written, made or changed; `mounted` if it is there.
const TRY_MOUNT: &str = r#"mkdir -p /tmp/m; mount -t $1 -o $2 none /tmp/m 2>/dev/null || exit 0; echo mounted
for f in $(find /tmp/m -maxdepth 2 -type f); do (: >> $f) 2>/dev/null && echo open $f; done
(echo /bin/true > /tmp/m/release_agent) 2>/dev/null && echo took release_agent
(echo 1 > /tmp/m/notify_on_release) 2>/dev/null && echo took notify_on_release
mkdir /tmp/m/own 2>/dev/null && echo made own; chmod 777 /tmp/m 2>/dev/null && echo changed; umount /tmp/m"#;

/// Rows CVE-2023-25809 and CVE-2022-0492: of the cgroup tree an instance sees its own part, and may write only what the
/// kernel says can be handed over; a version 1 hierarchy gives it no release agent.
#[test]
fn cve_2022_0492_cgroups() {
    let Some(state) = probed("cve_2022_0492_cgroups") else { return };
    for settings in [&[][..], &["-c", "security.nesting=true"]] {
        state.launch("c1", settings).good().unwrap();
        cgroup_of(&state);
        version_1(&state);
        state.good(&["delete", "-f", "c1"]);
    }
    state.finish();
}

fn cgroup_of(state: &crate::common_root::State) {
    let groups = state.sh("c1", "cat /proc/self/cgroup /proc/1/cgroup");
    assert!(groups.lines().all(|l| !l.starts_with("0::") || l == "0::/"), "{groups}");
    let kernel = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
    let delegated: BTreeSet<String> = kernel.lines().map(|f| format!("open {f}")).collect();
    let written = state.sh("c1", WRITE_ALL);
    for line in written.lines() {
        assert!(delegated.contains(line), "{line}: what of it can be written: {written}");
    }
    assert!(written.contains("open cgroup.procs"), "nothing was delegated: {written}");
    let own = state.run_record("c1")["cgroup"].as_str().unwrap().to_string();
    let ours = |f: &str| std::fs::metadata(Path::new(&own).join(f)).map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    for file in ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.freeze", "cgroup.kill", "cgroup.controllers"] {
        assert_eq!(ours(file).unwrap(), 0, "{file}");
    }
    // Groups of its own it may have, but cannot leave its part, nor see another's.
    state.sh("c1", "mkdir /sys/fs/cgroup/own; sleep 100 >/dev/null 2>&1 & echo $! > /sys/fs/cgroup/own/cgroup.procs");
    assert!(Path::new(&own).join("own").is_dir());
    assert!(!state.try_sh("c1", "ls -d /sys/fs/cgroup/../../cgroup/*/monitors").ok());
    assert!(!state.try_sh("c1", "echo 1 > /sys/fs/cgroup/../cgroup.procs").ok());
    // exec still enters, although processes may not live beside groups with controllers.
    assert_eq!(state.sh("c1", "echo in"), "in");
}

/// No file of a version 1 hierarchy is there, and one that is mounted shows nothing that can be changed.
fn version_1(state: &crate::common_root::State) {
    assert_eq!(state.sh("c1", "find / -xdev -name release_agent; find /sys -name release_agent; true"), "");
    let table = std::fs::read_to_string("/proc/cgroups").unwrap();
    let controllers = table.lines().skip(1).filter_map(|l| l.split_whitespace().next().map(str::to_string));
    let mut tries: Vec<(&str, String)> = controllers.map(|c| ("cgroup", c)).collect();
    tries.extend([("cgroup", "none,name=x"), ("cgroup", "none,name=systemd")].map(|(k, o)| (k, o.to_string())));
    let agent = |o: &str| ("cgroup", format!("none,name={o},release_agent=/bin/true"));
    tries.extend([agent("x"), agent("systemd")]);
    let mut mounted = 0;
    for (kind, options) in tries {
        let out = state.good(&["exec", "c1", "--", "sh", "-c", TRY_MOUNT, "sh", kind, &options]);
        mounted += usize::from(out.starts_with("mounted"));
        assert!(["", "mounted"].contains(&out.trim()), "{kind} {options}: {out}");
    }
    eprintln!("{mounted} version 1 hierarchies could be mounted, and not written");
    let second = state.good(&["exec", "c1", "--", "sh", "-c", TRY_MOUNT, "sh", "cgroup2", "nsdelegate"]);
    assert!(!second.contains("took"), "{second}");
}

/// Row CVE-2022-0185: what Incus denies is denied: at the start, in an exec, in a run, privileged or not.
#[test]
fn cve_2022_0185_seccomp_table() {
    let Some(state) = probed("cve_2022_0185_seccomp_table") else { return };
    let denied = "kexec_load 38\nopen_by_handle_at 38\ninit_module 38\nfinit_module 38\ndelete_module 38\numount2_force 13\numount2 2\n";
    let x32 = if cfg!(target_arch = "x86_64") { "x32_getpid 38\n" } else { "" };
    let want = format!("{denied}{x32}");
    for settings in [&[][..], &["-c", "security.privileged=true"], &["-c", "security.nesting=true"]] {
        state.launch("c1", settings).good().unwrap();
        assert_eq!(state.good(&["exec", "c1", "--", "probe", "denied"]), want, "{settings:?}");
        assert_eq!(state.good(&["exec", "--user", "1000", "--cwd", "/", "c1", "--", "probe", "denied"]), want);
        assert_eq!(
            state.good(&[&["run", "test"], settings, &["--", "probe", "denied"]].concat()),
            want,
            "{settings:?}"
        );
        assert_eq!(state.sh("c1", "grep Seccomp: /proc/1/status /proc/self/status | cut -f2"), "2\n2");
        state.good(&["delete", "-f", "c1"]);
    }
    // The lists of the user act, and exclude each other.
    state.launch("c1", &["-c", "security.syscalls.deny=mkdirat errno 1\nmkdir errno 1\nsethostname"]).good().unwrap();
    assert!(!state.try_sh("c1", "mkdir /tmp/d").ok() && !state.try_sh("c1", "hostname x").ok());
    assert!(state.good(&["exec", "c1", "--", "probe", "denied"]).contains("open_by_handle_at 38"));
    for bad in ["security.syscalls.deny=no_such_call", "security.syscalls.deny=mkdir errno many"] {
        state.run(&["launch", "test", "c2", "-c", bad]).clean_failure().unwrap();
        state.run(&["delete", "-f", "c2"]);
    }
    let compat = ["-c", "security.syscalls.deny_default=false", "-c", "security.syscalls.deny_compat=true"];
    state.launch("c3", &compat).good().unwrap();
    let alone = state.good(&["exec", "c3", "--", "probe", "denied"]);
    assert!(!alone.contains("open_by_handle_at 38") && alone.ends_with(x32), "{alone}");
    // `doctor` looks at the kernel.
    assert!(state.run(&["doctor", "-f", "csv"]).stdout.lines().any(|l| l.starts_with("kernel,")));
    state.finish();
}

/// The inodes of sockets that a process has.
fn sockets(pid: &str) -> BTreeSet<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let names = fds.filter_map(|f| std::fs::read_link(f.path()).ok()).map(|p| p.to_string_lossy().into_owned());
    names.filter_map(|n| Some(n.strip_prefix("socket:[")?.strip_suffix(']')?.to_string())).collect()
}

/// Row CVE-2020-15257 and the network rows: nothing of ours listens on the network or on an abstract name, after any command.
#[test]
fn cve_2020_15257_nothing_listens() {
    let Some(state) = probed("cve_2020_15257_nothing_listens") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.launch("c2", &["-c", "security.privileged=true"]).good().unwrap();
    let mut running = state.command(&["run", "test", "--", "sleep", "5"]);
    let mut running = running.stdin(std::process::Stdio::null()).spawn().unwrap();
    for words in
        [&["exec", "c1", "--", "true"][..], &["list"], &["restart", "-f", "c1"], &["doctor"], &["image", "list"]]
    {
        state.good(words);
    }
    let monitor = |name: &str| state.run_record(name)["monitor_pid"].to_string();
    let mut ours: BTreeSet<String> =
        [monitor("c1"), monitor("c2"), running.id().to_string()].iter().flat_map(|p| sockets(p)).collect();
    ours.extend([state.init("c1"), state.init("c2")].iter().flat_map(|p| sockets(&p.to_string())));
    assert!(!ours.is_empty(), "the console's socket at least");
    for table in ["tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "packet", "netlink"] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        let hit = text.split_whitespace().find(|word| ours.contains(*word) && word.len() > 3);
        assert_eq!(hit, None, "{table}");
    }
    let unix = std::fs::read_to_string("/proc/net/unix").unwrap();
    for line in unix.lines().filter(|l| l.contains('@')) {
        let inode = line.split_whitespace().nth(6).unwrap_or_default();
        assert!(!ours.contains(inode), "abstract: {line}");
    }
    assert_eq!(
        state.sh("c1", "cat /proc/net/unix | grep -c @; cat /proc/net/tcp /proc/net/tcp6 | grep -vc local; true"),
        "0\n0"
    );
    running.wait().unwrap();
    state.finish();
}

/// The console's socket answers its owner only, and is not reachable inside.
#[test]
fn the_console_socket_is_private() {
    let Some(state) = probed("the_console_socket_is_private") else { return };
    state.launch("c1", &[]).good().unwrap();
    let name = stapes::base::names::InstanceName::parse("c1").unwrap();
    let socket = state.layout().instance_run_dir(&Default::default(), &name).join("console.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::symlink_metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A stranger with the path does not even get to it.
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "ls"]).arg(&socket);
    assert!(!stranger.stderr(std::process::Stdio::null()).status().unwrap().success());
    assert!(lives(state.init("c1")));
    state.finish();
}

/// Rows CVE-2025-64507, CVE-2024-25621, CVE-2021-41091: a program with the set-user-id bit, planted inside, is root's on the
/// host's disk too; no other user of the host can reach it.
#[test]
fn cve_2025_64507_planted_setuid() {
    let Some(state) = probed("cve_2025_64507_planted_setuid") else { return };
    // As under /var/lib: everybody may pass the folder above the state.
    std::fs::set_permissions(&state.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", "cp /bin/busybox /root/suid && chmod 6755 /root/suid && chmod 777 /root && chmod 777 /");
    let found = Command::new("find").arg(&state.dir).args(["-name", "suid", "-perm", "-4000"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let paths: Vec<&str> = found.lines().collect();
    assert!(!paths.is_empty(), "it is on the disk");
    let init = state.init("c1");
    let all = paths
        .iter()
        .map(ToString::to_string)
        .chain([format!("/proc/{init}/root/root/suid"), format!("/proc/{init}/cwd/root/suid")]);
    for path in all {
        for uid in ["65534", "1000", "1000000"] {
            let mut host = Command::new("setpriv");
            host.args(["--reuid", uid, "--regid", uid, "--clear-groups", &path, "id", "-u"]);
            let out = host.output().unwrap();
            assert!(!out.status.success(), "{uid} ran {path}: {}", String::from_utf8_lossy(&out.stdout));
        }
    }
    // No folder of ours is open to others, but for passing through.
    let open = Command::new("find")
        .arg(&state.dir)
        .args([
            "-mindepth",
            "1",
            "(",
            "-path",
            "*/containers/*",
            "-o",
            "-path",
            "*/images/*",
            ")",
            "-prune",
            "-o",
            "-perm",
            "/066",
            "-not",
            "-type",
            "l",
            "-print",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(open.stdout).unwrap(), "");
    state.finish();
}
