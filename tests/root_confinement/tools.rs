//! What the tests of confinement ask of the kernel.

use crate::common_root::{Out, PATIENCE, State, have, run, skip};
use crate::support::Ask;
use std::path::Path;
use std::process::Command;

/// A state with the image `test` on a host with AppArmor.
pub fn state(test: &str) -> Option<State> {
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.trim() == "Y") {
        return crate::support::state(test);
    }
    skip(test, "AppArmor is not enabled");
    None
}

/// The profile that `name` should run in.
pub fn profile(state: &State, name: &str) -> String {
    let tag = stapes::ops::load::tag(&state.layout());
    stapes::container::apparmor::name(tag.as_deref(), "default", name)
}

/// The label of a process as the kernel prints it, with its mode.
pub fn label(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap().trim().to_string()
}

/// The policy namespace of `name`; none where the kernel does not stack them.
pub fn namespace(state: &State, name: &str) -> Option<String> {
    let stacks = std::fs::read_to_string("/sys/kernel/security/apparmor/features/domain/stack");
    stacks.is_ok_and(|t| t.trim() == "yes").then(|| format!("lxc-{}", profile(state, name)))
}

/// What [`label`] should be.
pub fn enforced(state: &State, name: &str) -> String {
    let profile = profile(state, name);
    match namespace(state, name) {
        Some(namespace) => format!("{profile}//&:{namespace}:unconfined (enforce)"),
        None => format!("{profile} (enforce)"),
    }
}

/// What a process in `name` sees of it: of a stack only what is in its own namespace.
pub fn seen_inside(state: &State, name: &str) -> String {
    if namespace(state, name).is_some() { "unconfined".into() } else { enforced(state, name) }
}

/// Asserts that every process of `name` runs with its label; how many there are.
pub fn all_enforced(state: &State, name: &str) -> usize {
    let mut groups = vec![std::path::PathBuf::from(state.run_record(name)["cgroup"].as_str().unwrap())];
    let mut count = 0;
    while let Some(group) = groups.pop() {
        for pid in std::fs::read_to_string(group.join("cgroup.procs")).unwrap().lines() {
            // One that ends meanwhile has none.
            if let Ok(label) = std::fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")) {
                assert_eq!(label.trim(), enforced(state, name), "process {pid}");
                count += 1;
            }
        }
        let below = std::fs::read_dir(group).unwrap().flatten().map(|e| e.path());
        groups.extend(below.filter(|p| p.is_dir()));
    }
    count
}

/// All profiles of this state folder in the kernel, and those whose namespaces are there.
pub fn loaded(state: &State) -> Vec<String> {
    let tag = stapes::ops::load::tag(&state.layout());
    let prefix = stapes::container::apparmor::prefix(tag.as_deref());
    let all = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
    let ours = all.lines().filter(|l| l.starts_with(&prefix));
    let namespaces = stapes::host::lsm::apparmor::with_namespace(&prefix);
    let mut all: Vec<_> = ours.map(|l| l.trim_end_matches(" (enforce)").to_string()).chain(namespaces).collect();
    all.sort();
    all.dedup();
    all
}

/// Runs the program where the compiler of profiles is another file, which only this command sees.
pub fn with_parser(state: &State, parser: &Path, args: &[&str]) -> Out {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" \"$(readlink -f \"$(command -v apparmor_parser)\")\" && exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).arg(parser).arg(&state.bin).args(args);
    command.env_clear().env("STAPES_DIR", &state.dir).env("HOME", "/root");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    run(command, None, PATIENCE)
}

/// A shell command on the host in the profile of instance `name`, seen as a process of it would be.
pub fn as_if_in(state: &State, name: &str, script: &str) -> Option<Out> {
    if !have("aa-exec") {
        skip("as_if_in", "no aa-exec");
        return None;
    }
    let mut command = Command::new("aa-exec");
    command.args(["-p", &profile(state, name), "--", "sh", "-c", script]);
    Some(run(command, None, PATIENCE))
}
