//! The seccomp policy of a container: from configuration to the runtime specification, and from that to programs.
//!
//! The default is Incus's denylist: forced unmounts are refused; `kexec_load`, `open_by_handle_at` and the module calls do
//! not exist. Policy lines have LXC's form: `name`, `name errno N`, `name kill`, `name allow`.

use crate::error::{Error, Result};
use crate::sys::seccomp::{Answer, Calls, Condition, Foreign, Instruction, compile};
use crate::sys::syscalls;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator,
    LinuxSyscall, LinuxSyscallBuilder, Spec,
};
use std::collections::BTreeMap;

/// What the user wants (`security.syscalls.*`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The default denylist is in force (default).
    pub deny_default: bool,
    /// Calls of other architectures do not exist.
    pub deny_compat: bool,
    /// Further denied calls, one a line.
    pub deny: Option<String>,
    /// Only these are allowed, one a line; excludes the others.
    pub allow: Option<String>,
}

const NOT_THERE: [&str; 5] = ["kexec_load", "open_by_handle_at", "init_module", "finit_module", "delete_module"];

/// The policy as the runtime specification has it.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for an unknown call or action, or when allow and deny lists are both given.
pub fn to_spec(policy: &Policy) -> Result<Option<LinuxSeccomp>> {
    let mut calls = Vec::new();
    let default = if let Some(allow) = &policy.allow {
        if policy.deny.is_some() {
            return Err(Error::invalid(
                "security.syscalls.allow is mutually exclusive with security.syscalls.deny*".to_string(),
            ));
        }
        for line in lines(allow) {
            calls.push(entry(line, LinuxSeccompAction::ScmpActAllow)?);
        }
        if calls.is_empty() {
            // It would stand for no filter at all.
            return Err(Error::invalid("security.syscalls.allow names no system call"));
        }
        LinuxSeccompAction::ScmpActKillProcess
    } else {
        if policy.deny_default {
            calls.push(forced_umount()?);
            for name in NOT_THERE {
                calls.push(denied(name, libc::ENOSYS as u32)?);
            }
        }
        for line in policy.deny.as_deref().into_iter().flat_map(lines) {
            calls.push(entry(line, LinuxSeccompAction::ScmpActErrno)?);
        }
        LinuxSeccompAction::ScmpActAllow
    };
    if calls.is_empty() && !policy.deny_compat {
        return Ok(None);
    }
    let native = if cfg!(target_arch = "x86_64") { Arch::ScmpArchX86_64 } else { Arch::ScmpArchAarch64 };
    let mut architectures = vec![native];
    if !policy.deny_compat && cfg!(target_arch = "x86_64") {
        architectures.push(Arch::ScmpArchX86);
    }
    LinuxSeccompBuilder::default()
        .default_action(default)
        .architectures(architectures)
        .syscalls(calls)
        .build()
        .map(Some)
        .map_err(internal)
}

fn internal(e: oci_spec::OciSpecError) -> Error {
    Error::internal("Failed building the seccomp policy").caused_by(e)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

/// umount2(2) with `MNT_FORCE` could hang a host's network file system.
fn forced_umount() -> Result<LinuxSyscall> {
    let force = libc::MNT_FORCE as u64;
    let arg = LinuxSeccompArgBuilder::default()
        .index(1usize)
        .value(force)
        .value_two(force)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
        .map_err(internal)?;
    LinuxSyscallBuilder::default()
        .names(vec!["umount2".to_string()])
        .action(LinuxSeccompAction::ScmpActErrno)
        .errno_ret(libc::EACCES as u32)
        .args(vec![arg])
        .build()
        .map_err(internal)
}

fn denied(name: &str, errno: u32) -> Result<LinuxSyscall> {
    LinuxSyscallBuilder::default()
        .names(vec![name.to_string()])
        .action(LinuxSeccompAction::ScmpActErrno)
        .errno_ret(errno)
        .build()
        .map_err(internal)
}

fn entry(line: &str, default: LinuxSeccompAction) -> Result<LinuxSyscall> {
    let bad = || Error::invalid(format!("Invalid system call policy line \"{line}\""));
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, rest) = words.split_first().ok_or_else(bad)?;
    if syscalls::number(name).is_none() {
        return Err(Error::invalid(format!("Unknown system call \"{name}\"")));
    }
    let (action, errno) = match rest {
        [] if default == LinuxSeccompAction::ScmpActErrno => (default, Some(libc::ENOSYS as u32)),
        [] => (default, None),
        ["errno", n] => {
            let n = n.parse().map_err(|_| bad())?;
            // Errno 0 would pretend success with seccomp's own limit at 4095 (MAX_ERRNO).
            if n > 4095 {
                return Err(bad());
            }
            (LinuxSeccompAction::ScmpActErrno, Some(n))
        }
        ["kill"] => (LinuxSeccompAction::ScmpActKillProcess, None),
        ["allow"] => (LinuxSeccompAction::ScmpActAllow, None),
        _ => return Err(bad()),
    };
    let builder = LinuxSyscallBuilder::default().names(vec![(*name).to_string()]).action(action);
    match errno {
        Some(n) => builder.errno_ret(n).build(),
        None => builder.build(),
    }
    .map_err(internal)
}

/// The programs of a specification, to be loaded one after the other.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for an unknown call.
pub fn programs(spec: &Spec) -> Result<Vec<Vec<Instruction>>> {
    spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()).map_or_else(|| Ok(Vec::new()), programs_of)
}

/// The programs of a policy, to be loaded one after the other.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for an unknown call.
pub fn programs_of(policy: &LinuxSeccomp) -> Result<Vec<Vec<Instruction>>> {
    let arches = policy.architectures().clone().unwrap_or_default();
    let foreign = if arches.contains(&Arch::ScmpArchX86) { Foreign::Allow } else { Foreign::Deny };
    let default = answer(policy.default_action(), None)?;
    let mut by_answer: BTreeMap<(Answer, bool), Calls> = BTreeMap::new();
    for call in policy.syscalls().iter().flatten() {
        let matched = answer(call.action(), call.errno_ret())?;
        for name in call.names() {
            let nr = syscalls::number(name).ok_or_else(|| Error::invalid(format!("Unknown system call \"{name}\"")))?;
            let conditions: Vec<Condition> = call.args().iter().flatten().map(condition).collect();
            by_answer.entry((matched, conditions.is_empty())).or_default().insert(nr, conditions);
        }
    }
    if by_answer.is_empty() && foreign == Foreign::Deny {
        // No call is named: only the dispatcher is wanted. A filter names one at least; no call has this number.
        let calls = Calls::from([(i64::from(u32::MAX), Vec::new())]);
        return Ok(vec![compile(&calls, Answer::Errno(libc::ENOSYS as u32), Answer::Allow, foreign)?]);
    }
    let mut out = Vec::new();
    if default != Answer::Allow {
        // An allow list: one filter lets every named call pass, the others then narrow it down.
        let named = by_answer.values().flat_map(|calls| calls.keys().map(|nr| (*nr, Vec::new()))).collect();
        out.push(compile(&named, Answer::Allow, default, foreign)?);
    }
    for ((matched, _), calls) in by_answer.into_iter().filter(|((matched, _), _)| *matched != Answer::Allow) {
        out.push(compile(&calls, matched, Answer::Allow, foreign)?);
    }
    Ok(out)
}

fn condition(arg: &oci_spec::runtime::LinuxSeccompArg) -> Condition {
    Condition { arg: arg.index() as u8, mask: arg.value(), value: arg.value_two().unwrap_or(arg.value()) }
}

fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Answer> {
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => Answer::Allow,
        LinuxSeccompAction::ScmpActErrno => Answer::Errno(errno.unwrap_or(libc::EPERM as u32)),
        LinuxSeccompAction::ScmpActKillProcess => Answer::Kill,
        other => return Err(Error::unsupported(format!("Unsupported seccomp action {other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_denies_what_incus_denies() {
        let policy = Policy { deny_default: true, ..Policy::default() };
        let spec = to_spec(&policy).expect("builds").expect("is there");
        let names: Vec<_> = spec.syscalls().iter().flatten().flat_map(|s| s.names().clone()).collect();
        assert_eq!(names[0], "umount2");
        assert!(NOT_THERE.iter().all(|n| names.iter().any(|m| m == n)));
    }

    /// Found by the fuzz target `plan`: a panic in seccompiler.
    #[test]
    fn other_architectures_alone_can_be_denied() {
        let policy = Policy { deny_compat: true, ..Policy::default() };
        let spec = to_spec(&policy).expect("builds").expect("is there");
        assert!(spec.syscalls().iter().flatten().next().is_none());
        assert_eq!(programs_of(&spec).expect("compiles").len(), 1);
    }

    #[test]
    fn lists_exclude_each_other_and_names_are_checked() {
        let both = Policy { allow: Some("read".into()), deny: Some("write".into()), ..Policy::default() };
        assert!(to_spec(&both).is_err());
        let unknown = Policy { deny: Some("no_such_call".into()), ..Policy::default() };
        assert!(to_spec(&unknown).expect_err("unknown").to_string().contains("no_such_call"));
        let empty = Policy { allow: Some(" \n".into()), ..Policy::default() };
        assert!(to_spec(&empty).is_err());
        let none = Policy::default();
        assert!(to_spec(&none).expect("builds").is_none());
    }
}
