//! `admin recover`: the state folder is lost, in whole or in part, and the pools are not.

use super::common_root::{self, Out, State};
use super::support::{Device, More, state};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

/// Fills a pool: two projects, an instance with a configuration, a snapshot and a volume, another volume with a snapshot.
fn fill(state: &State, pool: &str, of_volumes: &str) {
    for project in ["default", "p1"] {
        if project != "default" {
            state.ok(&format!("project create {project} -c features.images=false"));
        }
        let at = |words: &str| state.ok(&format!("--project {project} {words}"));
        at(&format!("create img c1 -s {pool} -c user.of={project} -c security.idmap.isolated=true"));
        at(&format!("storage volume create {pool} v1 user.of={project}{of_volumes} --description kept"));
        at(&format!("storage volume attach {pool} v1 c1 data /data"));
        at("start c1");
        sh(state, project, "echo first > /root/file; echo data > /data/file");
        at("snapshot create c1 s1 --expiry 30d");
        sh(state, project, "echo second > /root/file");
        at("stop -f c1");
        at("config set c1 user.late=1");
        at(&format!("storage volume snapshot create {pool} v1 vs1"));
        at(&format!("storage volume set {pool} v1 user.late=1"));
    }
}

fn sh(state: &State, project: &str, script: &str) {
    state.good(&["--project", project, "exec", "c1", "--", "/bin/sh", "-c", script]);
}

/// What must be the same before and afterwards.
fn told(state: &State, pool: &str) -> String {
    let mut all = String::new();
    for project in ["default", "p1"] {
        let at = |words: &str| state.ok(&format!("--project {project} {words}"));
        let config = at("config show c1");
        // Where it came from is no secret, and no longer there.
        all.extend(config.lines().filter(|l| !l.contains("last_state.power")).map(|l| format!("{l}\n")));
        all += &at("snapshot list c1 -f csv");
        all += &at(&format!("storage volume show {pool} v1"));
        all += &at(&format!("storage volume snapshot list {pool} v1 -f csv"));
    }
    all
}

fn works(state: &State, pool: &str) {
    for project in ["default", "p1"] {
        let at = |words: &str| state.ok(&format!("--project {project} {words}"));
        at("start c1");
        assert_eq!(at("exec c1 -- cat /root/file /data/file"), "second\ndata\n", "{project}");
        at("snapshot restore c1 s1");
        assert_eq!(at("exec c1 -- cat /root/file /data/file"), "first\ndata\n", "{project}");
        at("delete -f c1");
        at(&format!("storage volume snapshot restore {pool} v1 vs1"));
        at(&format!("storage volume delete {pool} v1"));
    }
    state.ok("project delete p1");
}

fn answers(state: &State, lines: &[&str]) -> Out {
    state.given("admin recover", &format!("{}\n", lines.join("\n")))
}

/// The whole state folder, with all it knows; the pool lies elsewhere.
fn all_is_lost(test: &str, driver: &str) {
    let Some(state) = state(test, driver == "btrfs") else { return };
    let device = (driver == "btrfs").then(|| Device::new(&state, "disk"));
    let folder = state.path("elsewhere");
    fs::create_dir(&folder).unwrap();
    let shown = &device.as_ref().map_or_else(|| folder.display().to_string(), Device::shown);
    lost_and_found(state, driver, shown, "");
}

/// The pool lies in `shown`; `option` is one that it had, and is to have again.
pub(super) fn lost_and_found(state: State, driver: &str, shown: &str, option: &str) {
    state.ok(format!("storage create p2 {driver} source={shown} {option}").trim_end());
    // Before ZFS 2.2 there are no id-mapped mounts.
    fill(&state, "p2", if driver == "zfs" { " security.unmapped=true initial.mode=777" } else { "" });
    let before = told(&state, "p2");
    // Nothing is mounted any more: it was another system that went.
    state.ok("admin shutdown");
    fs::remove_dir_all(state.path("state")).unwrap();
    state.preseed();
    let project = state.ok("project list -f csv -c n");
    assert_eq!(project, "default (current)\n");
    // Somebody else's folder, and one that is not there.
    let other = state.path("other");
    fs::create_dir(&other).unwrap();
    for (source, why) in [(other.to_str().unwrap(), "holds no storage pool"), ("/nonexistent", "Failed opening")] {
        let out = answers(&state, &["yes", "p2", driver, source, "", "no", "yes"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(why), "{out}");
    }
    // The project of one of them is missing: it waits until it is there.
    let mut command = state.command(&["admin", "recover"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let options = if option.is_empty() { String::new() } else { format!("{option}\n") };
    writeln!(input, "yes\np2\n{driver}\n{shown}\n{options}\nno\nyes").unwrap();
    // It lists what is missing before it reads on; the project is made while it waits.
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&said).contains("Please create those missing entries") {
        assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    state.ok("project create p1 -c features.images=false");
    write!(input, "\nyes\n").unwrap();
    drop(input);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(told(&state, "p2"), before);
    assert_eq!(state.ok("storage get p2 source"), format!("{shown}\n"));
    assert!(answers(&state, &["no", "yes"]).good().unwrap().contains("Nothing to do"));
    state.doctor().unwrap();
    works(&state, "p2");
    state.finish(&["p2"]);
}

#[test]
fn the_state_folder_is_lost_and_a_pool_of_overlays_is_not() {
    all_is_lost("the_state_folder_is_lost_overlay", "overlay");
}

#[test]
fn the_state_folder_is_lost_and_a_pool_of_folders_is_not() {
    all_is_lost("the_state_folder_is_lost_dir", "dir");
}

#[test]
fn the_state_folder_is_lost_and_a_pool_of_btrfs_is_not() {
    all_is_lost("the_state_folder_is_lost_btrfs", "btrfs");
}

/// All that is left of the state folder are the loop files in it.
#[test]
fn the_state_folder_is_lost_but_for_its_loop_files() {
    let Some(state) = state("the_state_folder_is_lost_but_for_its_loop_files", true) else { return };
    state.ok("storage create p2 btrfs size=256MiB");
    state.ok("create img c1 -s p2");
    state.ok("snapshot create c1 s1");
    state.ok("admin shutdown");
    for entry in fs::read_dir(state.path("state")).unwrap() {
        let entry = entry.unwrap();
        match entry.file_name() == "disks" {
            true => {}
            false if entry.file_type().unwrap().is_dir() => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
    answers(&state, &["yes", "p2", "btrfs", "", "", "no", "yes", "yes"]).good().unwrap();
    assert_eq!(state.ok("list -f csv -c nS"), "c1,1\n");
    state.ok("snapshot restore c1 s1");
    assert!(state.ok("storage set p2 size=300MiB").is_empty(), "it is the pool's own again");
    state.finish(&["p2"]);
}

/// The records of instances and volumes only, and that of a pool in the state folder.
#[test]
fn records_are_lost_and_their_pool_is_not() {
    let Some(state) = state("records_are_lost_and_their_pool_is_not", false) else { return };
    fill(&state, "default", "");
    let before = told(&state, "default");
    let projects = state.path("state/projects");
    for project in ["default", "p1"] {
        fs::remove_dir_all(projects.join(project).join("instances")).unwrap();
        fs::remove_dir_all(projects.join(project).join("volumes")).unwrap();
    }
    let out = answers(&state, &["no", "yes", "no"]).good().unwrap();
    for line in [
        "- \"default\" (backend=\"overlay\", source=",
        "- Container \"c1\" on pool \"default\" in project \"p1\" (includes 1 snapshots)",
        "- Volume \"v1\" on pool \"default\" in project \"default\" (includes 1 snapshots)",
    ] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
    assert_eq!(state.ok("list --all-projects -f csv -c n"), "", "the answer was no");
    fs::remove_file(state.path("state/pools/default/pool.toml")).unwrap();
    answers(&state, &["yes", "default", "overlay", "", "", "no", "yes", "yes"]).good().unwrap();
    assert_eq!(told(&state, "default"), before);
    works(&state, "default");
    state.finish(&[]);
}

/// What lies in a pool is judged like any stranger's; what cannot be recovered holds up nothing else.
#[test]
fn copies_of_records_are_not_believed() {
    let Some(state) = state("copies_of_records_are_not_believed", false) else { return };
    for name in ["good", "keyed", "linked", "huge", "gone", "device"] {
        state.ok(&format!("create img {name}"));
    }
    fs::remove_dir_all(state.path("state/projects/default/instances")).unwrap();
    let kept = |name: &str| state.path("state/pools/default/data/records").join(format!("containers.{name}"));
    let text = fs::read_to_string(kept("keyed")).unwrap();
    let at = text.find("[config]\n").unwrap() + "[config]\n".len();
    fs::write(kept("keyed"), format!("{}\"security.nonsense\" = \"1\"\n{}", &text[..at], &text[at..])).unwrap();
    fs::write(kept("device"), format!("{text}\n[devices.x]\ntype = \"nonsense\"\n")).unwrap();
    let secret = state.path("secret");
    fs::write(&secret, &text).unwrap();
    fs::remove_file(kept("linked")).unwrap();
    std::os::unix::fs::symlink(&secret, kept("linked")).unwrap();
    fs::write(kept("huge"), vec![b'#'; 2 << 20]).unwrap();
    fs::remove_file(kept("gone")).unwrap();
    let out = answers(&state, &["no", "yes", "yes"]);
    assert_eq!(out.code(), Some(1), "{out}");
    for name in ["linked", "huge", "gone"] {
        assert!(out.stderr.contains(&format!("Cannot be recovered: containers/{name} on pool")), "{name}: {out}");
    }
    for name in ["keyed", "device"] {
        assert!(out.stderr.contains(&format!("Failed recovering Container \"{name}\"")), "{name}: {out}");
    }
    assert_eq!(state.ok("list -f csv -c n"), "good\n");
    state.ok("start good");
    state.ok("delete -f good");
    let left = state.path("state/pools/default/data/containers");
    for name in ["keyed", "linked", "huge", "gone", "device"] {
        assert!(left.join(name).is_dir(), "{name} is lost");
        fs::remove_dir_all(left.join(name)).unwrap();
    }
    // The copies of what is gone go, too.
    assert!(state.words("doctor").to_string().contains("copies of records have no volume"));
    assert!(state.ok("doctor --fix").contains("FIXED"));
    state.finish(&[]);
}

/// Each verb leaves the copy as the record is.
#[test]
fn the_copy_of_a_record_is_never_behind() {
    let Some(state) = state("the_copy_of_a_record_is_never_behind", false) else { return };
    let kept = |file: &str| {
        let at = state.path("state/pools/default/data/records").join(file);
        fs::read_to_string(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()))
    };
    let is_gone = |file: &str| !Path::new(&state.path("state/pools/default/data/records")).join(file).exists();
    state.ok("create img c1 -c user.a=1");
    assert!(kept("containers.c1").contains("\"user.a\" = \"1\""));
    state.ok("config set c1 user.a=2");
    assert!(kept("containers.c1").contains("\"user.a\" = \"2\""));
    state.ok("profile create web");
    state.ok("profile add c1 web");
    assert!(kept("containers.c1").contains("\"web\""));
    state.ok("profile rename web site");
    assert!(kept("containers.c1").contains("\"site\""));
    state.ok("snapshot create c1 s1");
    assert!(kept("containers-snapshots.c1@s1").contains("\"user.a\" = \"2\""));
    state.ok("config set c1 user.a=3");
    state.ok("snapshot restore c1 s1");
    assert!(kept("containers.c1").contains("\"user.a\" = \"2\""));
    state.ok("rename c1 c2");
    state.ok("snapshot rename c2 s1 s2");
    assert!(is_gone("containers.c1") && is_gone("containers-snapshots.c1@s1"));
    assert!(kept("containers.c2").contains("user.a") && kept("containers-snapshots.c2@s2").contains("user.a"));
    state.ok("copy c2 c3");
    assert!(kept("containers.c3").contains("user.a") && kept("containers-snapshots.c3@s2").contains("user.a"));
    state.ok("storage volume create default v1 user.v=1");
    state.ok("storage volume snapshot create default v1 vs1");
    state.ok("storage volume set default v1 user.v=2");
    assert!(kept("custom.default_v1").contains("\"user.v\" = \"2\""));
    assert!(kept("custom-snapshots.default_v1@vs1").contains("\"user.v\" = \"1\""));
    state.ok("storage volume rename default v1 v2");
    assert!(is_gone("custom.default_v1") && kept("custom.default_v2").contains("user.v"));
    state.ok("delete c3");
    state.ok("storage volume delete default v2");
    assert!(is_gone("containers.c3") && is_gone("containers-snapshots.c3@s2") && is_gone("custom.default_v2"));
    // What went by unnoticed is put right by the clock.
    fs::remove_file(state.path("state/pools/default/data/records/containers.c2")).unwrap();
    state.ok("admin maintain");
    assert!(kept("containers.c2").contains("user.a"));
    state.ok("delete c2");
    state.ok("profile delete site");
    let left = fs::read_dir(state.path("state/pools/default/data/records")).unwrap().count();
    assert_eq!(left, 0, "copies of what is no more");
    state.finish(&[]);
}

/// The command with the binary that has faults.
fn armed(state: &State, faults: &Path, spec: &str, answers: &str) -> Out {
    let usual = state.command(&["admin", "recover"]);
    let mut command = std::process::Command::new(faults);
    command.args(usual.get_args()).env_clear().current_dir(state.path("."));
    usual.get_envs().for_each(|(key, value)| {
        command.env(key, value.unwrap_or_default());
    });
    command.env("STAPES_FAULT", spec);
    common_root::run(command, Some(answers), common_root::PATIENCE)
}

/// The points of a trace, each with which passage of it it is.
fn numbered(passed: &str) -> Vec<(&str, usize)> {
    let mut points: Vec<(&str, usize)> = Vec::new();
    for point in passed.lines() {
        let nth = points.iter().filter(|(p, _)| *p == point).count() + 1;
        points.push((point, nth));
    }
    points
}

/// Killed, or out of room, at each of its steps: doing it again brings back all of it, once.
#[test]
fn a_recovery_that_was_cut_off_goes_on() {
    let test = "a_recovery_that_was_cut_off_goes_on";
    let Some(faults) = common_root::faults_binary(test) else { return };
    let Some(prepared) = state(test, false) else { return };
    let source = prepared.path("elsewhere");
    fs::create_dir(&source).unwrap();
    prepared.ok(&format!("storage create p2 overlay source={}", source.display()));
    fill(&prepared, "p2", "");
    let before = told(&prepared, "p2");
    for project in ["default", "p1"] {
        for folder in ["instances", "volumes"] {
            fs::remove_dir_all(prepared.path("state/projects").join(project).join(folder)).unwrap();
        }
    }
    fs::remove_dir_all(prepared.path("state/pools/p2")).unwrap();
    let all = format!("yes\np2\noverlay\n{}\n\nno\nyes\nyes\n", source.display());
    let again = "no\nyes\nyes\n";
    let keep = prepared.path("kept");
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    copy(&prepared.path("state"), &keep);
    copy(&source, &prepared.path("kept-pool"));
    let fresh = || {
        for (from, to) in [("kept", "state"), ("kept-pool", "elsewhere")] {
            fs::remove_dir_all(prepared.path(to)).unwrap();
            copy(&prepared.path(from), &prepared.path(to));
        }
    };
    let run = |spec: &str| armed(&prepared, &faults, spec, &all);
    let trace = prepared.path("trace");
    run(&format!("trace:{}", trace.display())).good().unwrap();
    assert_eq!(told(&prepared, "p2"), before);
    let passed = fs::read_to_string(&trace).unwrap();
    let points = numbered(&passed);
    assert!(points.iter().any(|(p, _)| *p == "recover.record"), "{points:?}");
    for (at, (point, nth)) in points.iter().filter(|(_, nth)| *nth <= 2).enumerate() {
        fresh();
        let counter = prepared.path("counter");
        fs::write(&counter, "").unwrap();
        let action = if at % 3 == 2 { "enospc" } else { "kill" };
        let out = run(&format!("{action}:{point}:{nth}:{}", counter.display()));
        let has_pool = prepared.ok("storage list -f csv -c n").lines().any(|l| l == "p2");
        let input = if has_pool { again } else { &all };
        let second = prepared.given("admin recover", input);
        // Answers that are left over when nothing was left to do.
        assert!(second.ok(), "{action} at {point}:{nth}: {out}\nthen {second}");
        assert_eq!(told(&prepared, "p2"), before, "{action} at {point}:{nth}: {out}");
        prepared.doctor().unwrap_or_else(|e| panic!("{action} at {point}:{nth}: {e}"));
    }
    works(&prepared, "p2");
    fs::remove_dir_all(keep).unwrap();
    fs::remove_dir_all(prepared.path("kept-pool")).unwrap();
    prepared.finish(&["p2"]);
}
