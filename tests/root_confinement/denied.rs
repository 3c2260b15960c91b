//! `raw.apparmor` that denies what a start, an exec or an end needs: an error that names the key, never a hang, and whatever
//! was started can be ended.

use crate::common_root::{Out, State};
use crate::support::{Ask, until};
use crate::tools::{all_enforced, loaded, state};

const KEY: &str = "raw.apparmor";

/// It did its work, or said whose rules kept it from that.
fn done_or_named(what: &str, out: &Out) -> bool {
    let named = out.stderr.contains(KEY) || out.stdout.contains(KEY);
    assert!(out.status.is_some(), "{what} hangs: {out}");
    assert!(out.ok() || named, "{what}: {out}");
    assert!(!out.stderr.contains("hang") && !out.stderr.contains("panicked"), "{what}: {out}");
    out.ok()
}

/// What the rules leave possible: a start, an exec, an end when asked for.
fn try_all(state: &State, rules: &str) -> [bool; 3] {
    let raw = format!("{KEY}={rules}");
    state.good(&["create", "test", "c1", "-c", &raw]);
    let started = done_or_named(rules, &state.run(&["start", "c1"]));
    if !started {
        assert_eq!((state.status("c1").as_deref(), loaded(state)), (Some("STOPPED"), Vec::new()), "{rules}");
        state.good(&["config", "unset", "c1", KEY]);
        state.good(&["start", "c1"]);
        // What starts without them may meet them later.
        state.good(&["config", "set", "c1", &raw]);
    }
    let entered = done_or_named(rules, &state.run(&["exec", "c1", "--", "true"]));
    let on_terminal = state.run(&["exec", "-t", "c1", "--", "true"]);
    assert_eq!(done_or_named(rules, &on_terminal), entered, "{rules}: {on_terminal}");
    until("nothing but the first process and its child", || all_enforced(state, "c1") <= 2);
    let asked = done_or_named(rules, &state.run(&["stop", "c1", "--timeout", "20"]));
    if !asked {
        state.good(&["stop", "-f", "c1"]);
    }
    assert_eq!(loaded(state), [""; 0], "{rules}");
    state.good(&["delete", "c1"]);
    let run = state.run(&["run", "--timeout", "20", "-c", &raw, "test", "--", "true"]);
    done_or_named(rules, &run);
    assert_eq!(loaded(state), [""; 0], "{rules}");
    [started, entered, asked]
}

#[test]
fn rules_that_deny_what_is_needed_are_named() {
    let Some(state) = state("rules_that_deny_what_is_needed_are_named") else { return };
    let mut wrong = Vec::new();
    for (rules, possible) in [
        ("deny ptrace,", Some([true, false, true])),
        ("deny signal,", Some([true, true, false])),
        ("deny signal (receive),", Some([true, true, false])),
        ("deny /bin/** x,", Some([true, false, true])),
        ("deny /sbin/init x,", Some([false, true, true])),
        ("deny capability,", Some([true, false, true])),
        ("deny capability sys_admin,", None),
        ("deny /** rwx,", None),
        ("deny /dev/** rw,", None),
        ("deny /proc/** rw,", None),
        ("deny mount,", None),
        ("deny network,", None),
    ] {
        let found = try_all(&state, rules);
        if possible.is_some_and(|wanted| wanted != found) {
            wrong.push(format!("{rules} start, exec, stop: {found:?}"));
        }
    }
    state.finish();
    assert_eq!(wrong, [""; 0]);
}
