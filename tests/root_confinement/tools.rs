//! What the tests of confinement ask of the kernel.

use crate::common_root::{Out, PATIENCE, State, have, run, skip};
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

/// What [`label`] should be.
pub fn enforced(state: &State, name: &str) -> String {
    format!("{} (enforce)", profile(state, name))
}

/// All profiles of this state folder in the kernel.
pub fn loaded(state: &State) -> Vec<String> {
    let tag = stapes::ops::load::tag(&state.layout());
    let prefix = stapes::container::apparmor::prefix(tag.as_deref());
    let all = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
    let ours = all.lines().filter(|l| l.starts_with(&prefix));
    ours.map(|l| l.trim_end_matches(" (enforce)").to_string()).collect()
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
