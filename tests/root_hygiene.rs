//! Nothing grows: after many starts and stops of one instance, and after many instances that came and went, there are as
//! many cgroups, mounts, processes, files and descriptors as before, and the monitor of an instance that ran all the while
//! is no bigger.
//!
//! `STAPES_HYGIENE_CYCLES` (200) is how many; software emulation makes do with fewer.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::{Out, State, leftovers};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// KiB that a monitor may have touched late: its size is sampled, not promised.
const SLACK: i64 = 32;
/// Dead cgroups that the kernel may not have freed yet although nothing is charged to them.
const DYING: i64 = 10;

/// What is counted, by name.
type Counts = BTreeMap<String, i64>;

fn cycles() -> usize {
    std::env::var("STAPES_HYGIENE_CYCLES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

/// The program, with temporary files where they can be counted.
fn run(state: &State, args: &[&str]) -> Out {
    let mut command = state.command(args);
    command.env("TMPDIR", state.path("tmp"));
    common_root::run(command, None, common_root::PATIENCE)
}

fn good(state: &State, args: &[&str]) {
    run(state, args).good().unwrap();
}

/// A state with a running instance `keep`.
fn state(test: &str) -> Option<State> {
    if !common_root::can_run(test) {
        return None;
    }
    let state = State::new(&common_root::binary());
    std::fs::create_dir(state.path("tmp")).unwrap();
    common_root::make_images(&state.dir);
    good(&state, &["image", "import", "image.tar", "--alias", "img"]);
    good(&state, &["launch", "img", "keep"]);
    Some(state)
}

fn monitor(state: &State) -> i64 {
    let name = stapes::base::names::InstanceName::parse("keep").unwrap();
    let text = std::fs::read_to_string(state.layout().run_file(&Default::default(), &name)).unwrap();
    text.parse::<toml::Table>().unwrap()["monitor_pid"].as_integer().unwrap()
}

/// Files and folders below `dir`.
fn entries(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(entries(&entry.path()));
        }
    }
    found
}

fn lines(path: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> i64 {
    let text = std::fs::read_to_string(path.as_ref()).unwrap_or_default();
    text.lines().filter(|l| wanted(l)).count() as i64
}

/// The number after `word` in a file of such pairs.
fn number(path: impl AsRef<Path>, word: &str) -> i64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(word));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn count(state: &State) -> Counts {
    let ours = state.dir.to_string_lossy().into_owned();
    let monitor = monitor(state);
    let tree = leftovers::cgroup(state).unwrap();
    let proc = |file: &str| format!("/proc/{monitor}/{file}");
    let descriptors = std::fs::read_dir(proc("fd")).unwrap().count();
    let mut counts = Counts::from([
        ("mounts here".into(), lines("/proc/self/mountinfo", |l| l.contains(&ours))),
        ("mounts of the monitor".into(), lines(proc("mountinfo"), |l| l.contains(&ours))),
        ("descriptors of the monitor".into(), descriptors as i64),
        ("threads of the monitor".into(), number(proc("status"), "Threads:")),
        ("live cgroups".into(), number(tree.join("cgroup.stat"), "nr_descendants")),
        ("processes".into(), processes(&ours)),
    ]);
    let layout = state.layout();
    for (what, dir) in [("state", layout.state), ("run", layout.run), ("log", layout.log), ("cache", layout.cache)] {
        counts.insert(format!("files in {what}"), entries(&dir).len() as i64);
    }
    counts.insert("temporary files".into(), entries(&state.path("tmp")).len() as i64);
    counts
}

/// Processes that name the state folder or have it open as their working folder.
fn processes(ours: &str) -> i64 {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
    let uses = |proc: &Path| {
        let words = std::fs::read_to_string(proc.join("cmdline")).unwrap_or_default();
        let dir = std::fs::read_link(proc.join("cwd")).unwrap_or_default();
        words.contains(ours) || dir.to_string_lossy().starts_with(ours)
    };
    pids.filter(|p| p.file_name().unwrap().to_string_lossy().parse::<u32>().is_ok() && uses(p)).count() as i64
}

/// What is the monitor's own, KiB: its share of our code depends on who else runs.
fn memory(state: &State) -> i64 {
    number(format!("/proc/{}/smaps_rollup", monitor(state)), "Pss_Anon:")
}

/// Dead cgroups go when nothing is charged to them any more. With a memory controller that is when the files they read have
/// left the page cache, so these are dropped before more are called a leak.
fn dying(state: &State, before: i64) {
    let stat = leftovers::cgroup(state).unwrap().join("cgroup.stat");
    let (mut now, end) = (0, Instant::now() + Duration::from_secs(20));
    while Instant::now() < end {
        now = number(&stat, "nr_dying_descendants");
        if now <= before + DYING {
            return;
        }
        let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{now} dead cgroups are still there, {before} were before");
}

/// Runs `cycle` many times and compares.
fn nothing_grows(test: &str, cycle: impl Fn(&State, usize)) {
    let Some(state) = state(test) else { return };
    // What is made once is made now.
    cycle(&state, 0);
    let stat = leftovers::cgroup(&state).unwrap().join("cgroup.stat");
    let (before, size, dead) = (count(&state), memory(&state), number(&stat, "nr_dying_descendants"));
    let began = Instant::now();
    for n in 1..=cycles() {
        cycle(&state, n);
    }
    eprintln!("{} cycles in {:.1?}; the monitor had {size} KiB, has {}", cycles(), began.elapsed(), memory(&state));
    // A process that was killed may be seen for a moment more.
    let end = Instant::now() + Duration::from_secs(5);
    let mut after = count(&state);
    while after != before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        after = count(&state);
    }
    let grown = after.iter().filter(|(what, now)| before.get(*what) != Some(now));
    let grown: Vec<String> =
        grown.map(|(what, now)| format!("{what}: {:?} before, {now} now", before.get(what))).collect();
    if !grown.is_empty() {
        let mut left = entries(&state.dir);
        left.truncate(60);
        panic!("{}\n{}", grown.join("\n"), left.join("\n"));
    }
    dying(&state, dead);
    assert!(memory(&state) <= size + SLACK, "the monitor grew from {size} KiB to {}", memory(&state));
    state.delete_all().unwrap();
    let left = leftovers::find(&state);
    assert!(left.is_empty(), "left behind: {left:#?}");
    // The part of the tree itself went with the last instance, or with its scope.
    let (base, end) = (leftovers::cgroup(&state).unwrap(), Instant::now() + Duration::from_secs(5));
    while base.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!base.exists(), "left behind: {}", base.display());
    state.doctor().unwrap();
}

#[test]
fn many_starts_and_stops() {
    let cycle = |state: &State, n: usize| {
        if n == 0 {
            good(state, &["create", "img", "c1"]);
        }
        good(state, &["start", "c1"]);
        good(state, &["stop", "-f", "c1"]);
    };
    nothing_grows("many_starts_and_stops", cycle);
}

#[test]
fn many_instances_come_and_go() {
    let cycle = |state: &State, n: usize| {
        let (name, other) = (format!("c{n}"), format!("d{n}"));
        good(state, &["launch", "img", &name]);
        good(state, &["delete", "-f", &name]);
        // The other ways to a name that is gone afterwards.
        match n % 4 {
            0 => good(state, &["run", "img", "--", "true"]),
            1 => {
                good(state, &["create", "img", &name]);
                good(state, &["rename", &name, &other]);
                good(state, &["delete", &other]);
            }
            2 => run(state, &["start", &other]).clean_failure().unwrap(),
            _ => {
                good(state, &["launch", "img", &name, "-e"]);
                good(state, &["stop", "-f", &name]);
            }
        }
    };
    nothing_grows("many_instances_come_and_go", cycle);
}

#[test]
fn many_images_come_and_go() {
    let cycle = |state: &State, n: usize| {
        let tree = state.path("image");
        std::fs::create_dir_all(tree.join("rootfs/sbin")).unwrap();
        let metadata = format!("architecture: x86_64\ncreation_date: {}\n", 1_700_000_000 + n);
        std::fs::write(tree.join("metadata.yaml"), metadata).unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.arg("-cf").arg(state.path("other.tar")).arg("-C").arg(&tree).args(["metadata.yaml", "rootfs"]);
        assert!(tar.status().unwrap().success());
        good(state, &["image", "import", "other.tar", "--alias", "other"]);
        if n.is_multiple_of(2) {
            good(state, &["create", "other", "c1"]);
            good(state, &["delete", "c1"]);
        }
        good(state, &["image", "delete", "other"]);
    };
    nothing_grows("many_images_come_and_go", cycle);
}
