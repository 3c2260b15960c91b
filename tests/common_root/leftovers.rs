//! What commands may have left: processes, cgroups, profiles, mounts, run folders, journals, volumes, trash.

use super::State;
use stapes::host::lsm::apparmor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes that were killed may take to disappear.
const GRACE: Duration = Duration::from_secs(3);

/// Everything that should not be there when nothing exists any more; empty: all is well.
pub fn find(state: &State) -> Vec<String> {
    let end = Instant::now() + GRACE;
    loop {
        let kernel = in_kernel(state);
        if kernel.is_empty() || Instant::now() > end {
            return kernel.into_iter().chain(on_disk(state)).collect();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Our part of the cgroup tree.
pub fn cgroup(state: &State) -> Option<PathBuf> {
    let tree = stapes::ops::load::cgroups(&state.layout()).ok()?;
    Some(tree.instance("x").path().parent()?.to_path_buf())
}

fn in_kernel(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(base) = cgroup(state) {
        for name in names(&base, |p| p.is_dir()) {
            match name.as_str() {
                "monitors" => {
                    let procs = std::fs::read_to_string(base.join("monitors/cgroup.procs")).unwrap_or_default();
                    found.extend(procs.lines().map(|pid| format!("monitor {pid}")));
                }
                _ => found.push(format!("cgroup {name}")),
            }
        }
    }
    found.extend(network(state));
    let dir = state.dir.to_string_lossy();
    found.extend(mounts("self", &dir).map(|l| format!("mount {l}")));
    found.extend(processes(state).into_iter().map(|p| format!("process {p}")));
    let prefix = stapes::container::apparmor::prefix(stapes::ops::load::tag(&state.layout()).as_deref());
    found.extend(apparmor::loaded(&prefix).into_iter().flatten().map(|p| format!("AppArmor profile {p}")));
    found.extend(apparmor::with_namespace(&prefix).into_iter().map(|n| format!("AppArmor namespace of {n}")));
    found
}

/// Interfaces that instances or networks of the tests had, and tables of rules: in this thread's network.
fn network(state: &State) -> Vec<String> {
    let output = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(program).args(args).output();
        out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
    };
    let links = output("ip", &["-br", "link"]);
    let ours = |l: &&str| l.starts_with("veth") || l.starts_with("matrixbr");
    let mut found: Vec<String> = links.lines().filter(ours).map(|l| format!("interface {l}")).collect();
    let tag = stapes::ops::load::tag(&state.layout()).unwrap_or_default();
    let tables = output("nft", &["list", "tables"]);
    found.extend(tables.lines().filter(|l| l.contains(&tag)).map(str::to_string));
    found
}

fn mounts(pid: &str, dir: &str) -> impl Iterator<Item = String> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let lines: Vec<String> = table.lines().filter(|l| l.contains(dir)).map(str::to_string).collect();
    lines.into_iter()
}

/// Processes with a mount, a command line or an open file of this state folder.
fn processes(state: &State) -> Vec<String> {
    let dir = state.dir.to_string_lossy().into_owned();
    let ours = std::process::id().to_string();
    let mut found = Vec::new();
    for pid in names(Path::new("/proc"), |_| true).into_iter().filter(|n| n.parse::<u32>().is_ok() && *n != ours) {
        let proc = Path::new("/proc").join(&pid);
        let words = std::fs::read_to_string(proc.join("cmdline")).unwrap_or_default().replace('\0', " ");
        let fds = names(&proc.join("fd"), |_| true);
        let open = fds.iter().any(|fd| {
            std::fs::read_link(proc.join("fd").join(fd)).is_ok_and(|p| p.to_string_lossy().starts_with(&dir))
        });
        if open || words.contains(&dir) || mounts(&pid, &dir).next().is_some() {
            found.push(format!("{pid} {words}"));
        }
    }
    found
}

/// Waits until a process of this state whose command line begins with `words` is there.
pub fn wait_for_process(state: &State, words: &str) {
    let end = Instant::now() + super::PATIENCE;
    let there = |p: &String| p.split_once(' ').is_some_and(|(_, line)| line.starts_with(words));
    while !processes(state).iter().any(there) {
        assert!(Instant::now() < end, "no process \"{words}\"");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn on_disk(state: &State) -> Vec<String> {
    let layout = state.layout();
    let mut found = Vec::new();
    let mut empty = |what: &str, dir: PathBuf| {
        found.extend(names(&dir, |_| true).into_iter().map(|name| format!("{what} {name}")));
    };
    empty("journal", layout.ops_dir());
    empty("run folder", layout.run_instances_dir());
    empty("record", layout.instances_dir(&Default::default()));
    empty("trash", layout.state.join("trash"));
    for pool in names(&layout.state.join("pools"), |p| p.is_dir()) {
        let data = layout.state.join("pools").join(&pool).join("data");
        for part in ["containers", "images", "trash"] {
            empty(&format!("in pool: {part}"), data.join(part));
        }
    }
    for image in names(&layout.images_dir(), |_| true).into_iter().filter(|n| n != "aliases.toml") {
        found.push(format!("image {image}"));
    }
    for log in names(&layout.log, |p| p.is_dir()) {
        found.push(format!("log {log}"));
    }
    found
}

fn names(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let wanted = entries.flatten().filter(|e| wanted(&e.path()));
    wanted.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends everything that runs in this state and removes its cgroups, so that a failed test leaves nothing on the host.
pub fn end(state: &State) {
    end_processes(state);
    // Pools that have a file system of their own.
    for line in mounts("self", &state.dir.to_string_lossy()) {
        if let Some(at) = line.split(' ').nth(4) {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn end_processes(state: &State) {
    let Some(base) = cgroup(state) else { return };
    let _ = std::fs::write(base.join("cgroup.kill"), "1");
    let stop = Instant::now() + GRACE;
    while base.is_dir() && Instant::now() < stop {
        remove(&base);
        if base.is_dir() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove(dir: &Path) {
    for name in names(dir, |p| p.is_dir()) {
        remove(&dir.join(name));
    }
    let _ = std::fs::remove_dir(dir);
}
