//! Images that attack at the start: mount points that are links, device nodes, settings they bring along, volumes that are
//! changed meanwhile. And the host's own files, which only their owner's commands change.

use crate::common_root::{State, brief};
use crate::support::{Ask, Tree};
use crate::tools::{background, probed, probed_with};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn replace(tree: &Tree, name: &str, target: &str) {
    let path = tree.rootfs().join(name);
    let _ = std::fs::remove_dir_all(&path);
    let _ = std::fs::remove_file(&path);
    symlink(target, path).unwrap();
}

fn empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().count() == 0
}

/// Whether `/proc` is procfs, `/sys` sysfs, `/dev` our tmpfs and the nodes in it are real.
fn genuine(state: &State, name: &str) {
    // By way of the kernel: a faked root could lie to a command inside.
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", state.init(name))).unwrap();
    for (at, kind) in
        [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/sys/fs/cgroup", "cgroup2")]
    {
        let found =
            table.lines().filter(|l| l.split(' ').nth(4) == Some(at)).all(|l| l.contains(&format!(" - {kind} ")));
        assert!(found && table.lines().any(|l| l.split(' ').nth(4) == Some(at)), "{at}: {table}");
    }
    assert_eq!(
        state.sh(name, "stat -c '%F %t:%T' /dev/null /dev/zero"),
        "character special file 1:3\ncharacter special file 1:5"
    );
    assert!(state.sh(name, "stat -Lc %F /dev/console").contains("character"));
}

/// Starts an image of which `change` has made something of `/proc`, `/sys` or `/dev`. It is refused at the import or at the
/// start with a clear error, or it runs with the real things in place; the host is as it was.
fn hostile(state: &State, case: &str, victim: &Path, change: impl FnOnce(&Tree)) {
    let tree = Tree::new(state);
    change(&tree);
    let pattern = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let imported = tree.import(state, "hostile");
    if !imported.ok() {
        return imported.clean_failure().unwrap();
    }
    for settings in [&[][..], &["-c", "security.privileged=true"]] {
        let out = state.run(&[&["launch", "hostile", "h1"], settings].concat());
        if out.ok() {
            genuine(state, "h1");
            state.try_sh("h1", "echo x > /dev/null; echo x > /proc/sys/kernel/core_pattern; touch /dev/shm/x");
        } else {
            out.clean_failure().unwrap_or_else(|e| panic!("{case}: {e}"));
        }
        state.run(&["delete", "-f", "h1"]);
        state.run(&[&["run", "hostile"], settings, &["--", "true"]].concat());
        assert!(empty(victim), "{case}: the host's folder was written to");
        assert!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap() == pattern, "{case}");
    }
}

/// Rows CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642 (`/proc`, `/sys` are links), CVE-2026-41579 and
/// CVE-2026-47766 (`/dev` is), CVE-2025-31133 (`/dev/null` is), CVE-2025-52565 (`/dev/console`, `/dev/pts` are),
/// CVE-2025-52881 (what is below `/proc` is not procfs).
#[test]
fn cve_2019_16884_mount_points_are_links() {
    let Some(state) = probed("cve_2019_16884_mount_points_are_links") else { return };
    let victim = state.path("victim");
    std::fs::create_dir(&victim).unwrap();
    let out = victim.to_str().unwrap();
    let up = format!("../../../../../../../..{out}");
    for name in ["proc", "sys", "dev"] {
        let targets = [out, "/proc/self/root", &up, "/tmp", "tmp", name, "/no/such/place"];
        for target in &targets[..if brief() { 2 } else { targets.len() }] {
            hostile(&state, &format!("{name} -> {target}"), &victim, |t| replace(t, name, target));
        }
        hostile(&state, &format!("{name} is a file"), &victim, |t| {
            std::fs::remove_dir_all(t.rootfs().join(name)).unwrap();
            t.file(name, "", 0o644);
        });
        hostile(&state, &format!("{name} is missing"), &victim, |t| {
            std::fs::remove_dir_all(t.rootfs().join(name)).unwrap()
        });
    }
    hostile(&state, "below them", &victim, |t| {
        replace(t, "proc/self", out);
        replace(t, "proc/sys", out);
        replace(t, "sys/fs", out);
        for (name, target) in [
            ("null", "/proc/sys/kernel/core_pattern"),
            ("console", "/proc/sysrq-trigger"),
            ("pts", out),
            ("shm", out),
            ("mqueue", out),
        ] {
            replace(t, &format!("dev/{name}"), target);
        }
    });
    hostile(&state, "the folder above", &victim, |t| {
        // Links on the way to a mount point of a device.
        replace(t, "mnt", out);
        replace(t, "etc", out);
        std::fs::remove_dir_all(t.rootfs().join("sbin")).unwrap();
        std::fs::create_dir(t.rootfs().join("sbin")).unwrap();
        t.file("sbin/init", crate::support::INIT, 0o755);
    });
    std::fs::remove_dir(victim).unwrap();
    state.finish();
}

/// Rows CVE-2025-9566 and CVE-2026-55686, and the templates' rows: what we write into an instance (templates) goes through no
/// link out of it.
#[test]
fn cve_2025_9566_templates_stay_inside() {
    let Some(state) = probed("cve_2025_9566_templates_stay_inside") else { return };
    let victim = state.path("victim");
    std::fs::create_dir(&victim).unwrap();
    let tree = Tree::new(&state);
    std::fs::create_dir(tree.dir.join("templates")).unwrap();
    std::fs::write(tree.dir.join("templates/t.tpl"), "{{ instance.name }}\n").unwrap();
    let arch = std::env::consts::ARCH;
    let mut metadata = format!("architecture: {arch}\ncreation_date: 1700000000\ntemplates:\n");
    let out = victim.to_str().unwrap();
    for (i, target) in ["/etc/hostname", "/abs/file", "/../../../../../../tmp/stapes-out", "/deep/a/file", "/loop/x"]
        .iter()
        .enumerate()
    {
        metadata.push_str(&format!("  {target}:\n    when: [create, copy, start]\n    template: t.tpl\n"));
        assert!(i < 9);
    }
    std::fs::write(tree.dir.join("metadata.yaml"), metadata).unwrap();
    for (name, target) in [("etc", out), ("abs", out), ("deep", "../../../../../../.."), ("loop", "loop")] {
        replace(&tree, name, target);
    }
    let imported = tree.import(&state, "templated");
    if imported.ok() {
        let made = state.run(&["launch", "templated", "t1"]);
        assert!(made.ok() || made.clean_failure().is_ok(), "{made}");
        state.run(&["delete", "-f", "t1"]);
    }
    assert!(empty(&victim) && !Path::new("/tmp/stapes-out").exists() && !Path::new("/a").exists());
    std::fs::remove_dir(victim).unwrap();
    state.finish();
}

/// Rows CVE-2021-30465 and CVE-2024-45310: one of two instances that share a volume swaps a folder for a link while the other
/// starts with a device mounted there.
#[test]
fn cve_2021_30465_swapped_mount_point() {
    let Some(state) = probed("cve_2021_30465_swapped_mount_point") else { return };
    let (shared, source) = (state.path("shared"), state.path("source"));
    for dir in [&shared, &source, &shared.join("a"), &shared.join("a/d")] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(source.join("mark"), "the device").unwrap();
    symlink("/", shared.join("b")).unwrap();
    let disk = |name: &str, source: &Path, path: &str| {
        vec![
            "-d".to_string(),
            format!("{name},type=disk"),
            "-d".into(),
            format!("{name},source={}", source.display()),
            "-d".into(),
            format!("{name},path={path}"),
            "-d".into(),
            format!("{name},shift=true"),
        ]
    };
    let vol = disk("vol", &shared, "/vol");
    let inner = [vol.clone(), disk("zin", &source, "/vol/a/d")].concat();
    state.launch("evil", &vol.iter().map(String::as_str).collect::<Vec<_>>()).good().unwrap();
    let words: Vec<&str> = inner.iter().map(String::as_str).collect();
    state.good(&[&["create", "test", "good"], &words[..]].concat());
    let mut swap = background(&state, "evil", "exec probe swap /vol/a /vol/b 600");
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    // Starts that met the folder, that met the link, and that were refused.
    let (mut folder, mut link, mut refused) = (0, 0, 0);
    while std::time::Instant::now() < end && (folder < 10 || link < 10) {
        let out = state.run(&["start", "good"]);
        if out.ok() {
            // Wherever it went, it went below its own root, and the host has nothing of it.
            let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", state.init("good"))).unwrap();
            let place = table.lines().filter_map(|l| l.split(' ').nth(4)).find(|p| p.ends_with("/d")).unwrap_or("none");
            match place {
                "/vol/a/d" | "/vol/b/d" => folder += 1,
                "/d" => link += 1,
                _ => panic!("{place} in {table}"),
            }
            state.good(&["stop", "-f", "good"]);
        } else {
            out.clean_failure().unwrap();
            refused += 1;
        }
        assert!(!shared.join("a/d/mark").exists() && !shared.join("b/d/mark").exists() && !Path::new("/d").exists());
    }
    assert!(swap.try_wait().unwrap().is_none(), "the swapping ended before the starts");
    state.good(&["stop", "-f", "evil"]);
    swap.wait().unwrap();
    eprintln!("{folder} starts met the folder, {link} the link, {refused} were refused");
    assert!(folder > 0 && link + refused > 0, "the race was not met: {folder} {link} {refused}");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    state.delete_instances();
    for dir in [shared, source] {
        std::fs::remove_dir_all(dir).unwrap();
    }
    state.finish();
}

trait DeleteInstances {
    fn delete_instances(&self);
}

impl DeleteInstances for State {
    fn delete_instances(&self) {
        for (name, _) in self.instances().unwrap() {
            self.good(&["delete", "-f", &name]);
        }
    }
}

/// Device nodes on a root or a volume do nothing: they are on mounts without devices, or the device group denies them.
#[test]
fn device_nodes_of_images_do_nothing() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let nodes = [
        ("mem", FileType::CharacterDevice, 1, 1),
        ("zero", FileType::CharacterDevice, 1, 5),
        ("disk", FileType::BlockDevice, 254, 0),
    ];
    let make = |dir: &Path| {
        for (name, kind, major, minor) in nodes {
            mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o666), makedev(major, minor)).unwrap();
        }
    };
    let Some(state) = probed_with("device_nodes_of_images_do_nothing", |_| {}) else { return };
    let volume = state.path("volume");
    std::fs::create_dir(&volume).unwrap();
    make(&volume);
    let disk = [
        "-d",
        "v,type=disk",
        "-d",
        &format!("v,source={}", volume.display()),
        "-d",
        "v,path=/mnt",
        "-d",
        "v,shift=true",
    ]
    .map(str::to_string);
    let disk: Vec<&str> = disk.iter().map(String::as_str).collect();
    state.launch("c1", &disk).good().unwrap();
    // Into the root from outside, as an image or an old privileged life could have put them.
    let pool: PathBuf =
        state.layout().pool_containers(&stapes::base::names::PoolName::parse("default").unwrap()).join("c1");
    let root = ["upper", "rootfs"].map(|d| pool.join(d)).into_iter().find(|p| p.is_dir()).unwrap();
    make(&root);
    let try_all = |dir: &str| {
        for (name, ..) in nodes {
            let out = state.try_sh("c1", &format!("head -c 1 {dir}/{name}"));
            assert!(!out.ok(), "{dir}/{name} opens");
        }
    };
    state.good(&["restart", "-f", "c1"]);
    try_all("");
    try_all("/mnt");
    assert!(!state.try_sh("c1", "mount -o remount,dev / && head -c 1 /zero").ok());
    assert!(!state.try_sh("c1", "mknod /tmp/zero c 1 5 && head -c 1 /tmp/zero").ok());
    state.delete_instances();
    // An image that has them as entries: refused, or without them.
    let tree = Tree::new(&state);
    make(&tree.rootfs().join("mnt"));
    let imported = tree.import(&state, "nodes");
    if imported.ok() {
        state.good(&["launch", "nodes", "c1"]);
        try_all("/mnt");
    } else {
        imported.clean_failure().unwrap();
    }
    state.delete_instances();
    std::fs::remove_dir_all(volume).unwrap();
    state.finish();
}

/// Row CVE-2025-52881: a device that is mounted over a part of `/proc` or `/sys` gets none of our writes, and hides no mask: the
/// start is refused, or the kernel has what was to be written and the device has nothing.
#[test]
fn cve_2025_52881_devices_over_proc() {
    let Some(state) = probed("cve_2025_52881_devices_over_proc") else { return };
    let source = state.path("source");
    let fake = ["ipv4/ip_forward", "net/ipv4/ip_forward", "sys/net/ipv4/ip_forward", "current", "exec", "uid_map"];
    for file in fake {
        std::fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
        std::fs::write(source.join(file), "untouched").unwrap();
    }
    let (mut started, mut refused) = (0, 0);
    for path in
        ["/proc", "/proc/sys", "/proc/sys/net", "/proc/self/attr", "/proc/1/attr", "/sys", "/sys/fs/cgroup", "/dev"]
    {
        let disk = ["type=disk", &format!("source={}", source.display()), &format!("path={path}"), "shift=true"]
            .map(|o| format!("d,{o}"));
        let mut options: Vec<&str> = disk.iter().flat_map(|o| ["-d", o.as_str()]).collect();
        options.extend(["-c", "linux.sysctl.net.ipv4.ip_forward=1"]);
        let out = state.launch("c1", &options);
        for file in fake {
            assert_eq!(std::fs::read_to_string(source.join(file)).unwrap(), "untouched", "{path}: {file}");
        }
        if out.ok() {
            started += 1;
            // The kernel's own word, from outside.
            let init = state.init("c1");
            let mut ask = std::process::Command::new("nsenter");
            ask.args(["-t", &init.to_string(), "-n", "cat", "/proc/sys/net/ipv4/ip_forward"]);
            let said = String::from_utf8(ask.output().unwrap().stdout).unwrap();
            assert_eq!(said.trim(), "1", "{path}");
        } else {
            refused += 1;
            out.clean_failure().unwrap_or_else(|e| panic!("{path}: {e}"));
        }
        state.run(&["delete", "-f", "c1"]);
    }
    eprintln!("{started} started, {refused} refused");
    std::fs::remove_dir_all(source).unwrap();
    state.finish();
}

/// Rows CVE-2026-40226 and CVE-2025-24965: what an image says about settings is data. Nothing in it becomes configuration, and
/// no file of its root is read as such, nor followed.
#[test]
fn cve_2026_40226_images_bring_no_settings() {
    let Some(state) = probed("cve_2026_40226_images_bring_no_settings") else { return };
    let tree = Tree::new(&state);
    let arch = std::env::consts::ARCH;
    let metadata = format!(
        "architecture: {arch}\ncreation_date: 1700000000\nproperties:\n  security.privileged: \"true\"\n  raw.idmap: both 0 0\n  \
         user.x: y\n  os: x\n"
    );
    std::fs::write(tree.dir.join("metadata.yaml"), metadata).unwrap();
    for name in [".krun_config.json", "config.json", "backup.yaml", "instance.toml"] {
        tree.file(name, "{\"process\": {\"user\": {\"uid\": 0}}, \"security.privileged\": \"true\"}", 0o644);
    }
    for name in [".krun_config.json", "launch.json"] {
        replace(&tree, &format!("etc/{name}"), "/etc/shadow");
        replace(&tree, &format!("root/{name}"), "/proc/self/environ");
    }
    tree.import(&state, "bringing").good().unwrap();
    state.good(&["launch", "bringing", "c1"]);
    let expanded = state.good(&["config", "show", "c1", "--expanded"]);
    let bad: Vec<&str> = expanded
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with("security.") || l.starts_with("raw.") || l.starts_with("user."))
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_ne!(state.sh("c1", "cat /proc/self/uid_map").split_whitespace().nth(1), Some("0"));
    state.finish();
}
