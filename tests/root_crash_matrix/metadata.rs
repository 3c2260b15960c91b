//! An instance's own metadata and templates, after a crash.

use super::checks::{configured, want};
use super::common_root::State;
use super::scenarios::{Scenario, scenario};

const TEMPLATED: &[&str] = &["config template create c1 one.tpl"];
const METADATA: &str = "architecture: x86_64\ncreation_date: 7\nproperties: {os: new}\n";

fn instance(state: &State) {
    state.good(&["create", "img", "c1", "-c", "user.x=old"]);
}

const fn row(name: &'static str, verb: &'static str, check: fn(&State, bool) -> Result<(), String>) -> Scenario {
    Scenario { prepare: instance, input: Some("new\n"), ..scenario(name, verb, check) }
}

/// The first change, which makes the instance a folder of its own; a later one; the metadata; the end of a template.
pub const ALL: &[Scenario] = &[
    row("config template create", "config template create c1 one.tpl", templated),
    Scenario { before: TEMPLATED, ..row("config template edit", "config template edit c1 one.tpl", templated) },
    Scenario { input: Some(METADATA), ..row("config metadata edit", "config metadata edit c1", described) },
    Scenario { before: TEMPLATED, ..row("config template delete", "config template delete c1 one.tpl", dropped) },
];

fn template(state: &State) -> Result<Option<String>, String> {
    let names = state.run(&["config", "template", "list", "c1", "-f", "csv"]).good()?;
    want(["", "one.tpl\n"].contains(&names.as_str()), &format!("the templates are {names:?}"))?;
    let show = || state.run(&["config", "template", "show", "c1", "one.tpl"]).good();
    (!names.is_empty()).then(show).transpose()
}

fn rest(state: &State) -> Result<(), String> {
    state.run(&["config", "metadata", "show", "c1"]).good()?;
    configured(state, false)
}

/// The template is as before or as written.
fn templated(state: &State, done: bool) -> Result<(), String> {
    let text = template(state)?;
    want(matches!(text.as_deref(), None | Some("" | "new\n")), &format!("it says {text:?}"))?;
    want(text.as_deref() == Some("new\n") || !done, "it was reported written and is not")?;
    rest(state)
}

fn dropped(state: &State, done: bool) -> Result<(), String> {
    want(template(state)?.is_none() || !done, "it was reported deleted and is not")?;
    rest(state)
}

fn described(state: &State, done: bool) -> Result<(), String> {
    let new = state.run(&["config", "metadata", "show", "c1"]).good()?.contains("creation_date: 7\n");
    want(new || !done, "they were reported changed and are not")?;
    rest(state)
}
