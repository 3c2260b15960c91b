//! Seccomp filters: compiled by seccompiler, loaded in our own way.
//!
//! seccompiler's programs end a process of a foreign architecture and know nothing of x32. Here each rule set is compiled,
//! its prologue dropped, and a dispatcher put in front: the native architecture goes to the list, others to what the caller
//! says. Loading happens between clone and exec ([`super::child::Op::Seccomp`]), without no_new_privs, because sudo must
//! go on working in a system container. Several actions are several filters; the kernel takes the strictest answer.

use crate::error::{Error, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// One instruction: the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// What a filter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Let it pass.
    Allow,
    /// Fail with this error number.
    Errno(u32),
    /// Kill the process.
    Kill,
}

/// One condition on an argument of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Argument index, 0 to 5.
    pub arg: u8,
    /// Bits looked at.
    pub mask: u64,
    /// Their value.
    pub value: u64,
}

/// The calls of one filter by number, with conditions (all must hold; none: always).
pub type Calls = BTreeMap<i64, Vec<Condition>>;

/// What happens to calls of another architecture than the native one (i386, x32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// They pass (x32 never does: its numbers would slip past the list).
    Allow,
    /// They fail with ENOSYS.
    Deny,
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const LD_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;
const X32_BIT: u32 = 0x4000_0000;
/// Instructions of seccompiler's prologue: load the architecture, compare, kill.
const PROLOGUE: usize = 3;

#[cfg(target_arch = "x86_64")]
const NATIVE: (TargetArch, u32) = (TargetArch::x86_64, 0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: (TargetArch, u32) = (TargetArch::aarch64, 0xc000_00b7);

/// Compiles one filter: calls in `calls` get `matched`, others `otherwise`.
///
/// # Errors
/// [`crate::error::Kind::Internal`] if seccompiler refuses the rules.
pub fn compile(calls: &Calls, matched: Answer, otherwise: Answer, foreign: Foreign) -> Result<Vec<Instruction>> {
    let bad = |e: seccompiler::BackendError| Error::internal("Failed compiling the seccomp filter").caused_by(e);
    let mut rules = BTreeMap::new();
    for (nr, conditions) in calls {
        rules.insert(*nr, rules_of(conditions).map_err(bad)?);
    }
    let filter = SeccompFilter::new(rules, action(otherwise), action(matched), NATIVE.0).map_err(bad)?;
    let program: BpfProgram = filter.try_into().map_err(bad)?;
    Ok(dispatch(&program, foreign))
}

fn rules_of(conditions: &[Condition]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for c in conditions {
        all.push(SeccompCondition::new(c.arg, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(c.mask), c.value)?);
    }
    Ok(vec![SeccompRule::new(all)?])
}

fn action(answer: Answer) -> SeccompAction {
    match answer {
        Answer::Allow => SeccompAction::Allow,
        Answer::Errno(n) => SeccompAction::Errno(n),
        Answer::Kill => SeccompAction::KillProcess,
    }
}

fn dispatch(program: &BpfProgram, foreign: Foreign) -> Vec<Instruction> {
    let op = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let enosys = ERRNO | libc::ENOSYS as u32;
    let other = if foreign == Foreign::Allow { ALLOW } else { enosys };
    let mut out = vec![op(LD_ABS, 0, 0, 4), op(JEQ, 1, 0, NATIVE.1), op(RET, 0, 0, other)];
    if cfg!(target_arch = "x86_64") {
        out.extend([op(LD_ABS, 0, 0, 0), op(JGE, 0, 1, X32_BIT), op(RET, 0, 0, enosys)]);
    }
    out.extend(program.iter().skip(PROLOGUE).map(|i| op(i.code, i.jt, i.jf, i.k)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatcher_replaces_the_prologue() {
        let calls = Calls::from([(libc::SYS_kexec_load, vec![])]);
        let program = compile(&calls, Answer::Errno(38), Answer::Allow, Foreign::Allow).expect("compiles");
        assert_eq!(program[1].k, NATIVE.1);
        assert_eq!(program[2].k, ALLOW);
        // seccompiler's own prologue (load of the architecture at offset 4) must not be there a second time.
        assert_eq!(program.iter().filter(|i| i.code == LD_ABS && i.k == 4).count(), 1);
        assert!(program.iter().any(|i| i.code == RET && i.k == ERRNO | 38));
    }
}
