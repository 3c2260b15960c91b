//! The probe, and a state whose image has it.

use crate::common_root::{State, have, skip};
use crate::support::{Tree, state_with};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// The C program of the attacks, built once; none without a C compiler. In the guest, which has none, `STAPES_TEST_PROBE`
/// names it.
static PROBE: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    if let Some(built) = std::env::var_os("STAPES_TEST_PROBE") {
        return Some(built.into());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/root_security/probe.c");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
    let mut cc = Command::new("cc");
    let built = cc.args(["-O1", "-static", "-o"]).arg(&out).arg(source).stderr(Stdio::null()).status();
    built.is_ok_and(|s| s.success()).then_some(out)
});

/// A state whose image `test` has `/bin/probe`, and what `change` adds.
pub fn probed_with(test: &str, change: impl FnOnce(&Tree)) -> Option<State> {
    let Some(probe) = &*PROBE else {
        let why = if have("cc") { "the probe does not build statically" } else { "no C compiler" };
        skip(test, &format!("{why} (apt-get install gcc libc6-dev)"));
        return None;
    };
    state_with(test, |tree| {
        tree.copy(probe, "bin/probe");
        change(tree);
    })
}

pub fn probed(test: &str) -> Option<State> {
    probed_with(test, |_| {})
}

/// A command that runs in `name` until the test is done with it; its output comes at its end.
pub fn background(state: &State, name: &str, script: &str) -> Child {
    let mut command = state.command(&["exec", name, "--", "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

/// The output of [`background`].
pub fn finished(child: Child) -> String {
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// The number after `word` in `text`.
pub fn number(text: &str, word: &str) -> i64 {
    let mut words = text.split_whitespace().skip_while(|w| *w != word);
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {word:?} in {text:?}"))
}
