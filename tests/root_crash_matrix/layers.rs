//! Images that share layers, one of them on its way in or out: the other never lacks anything.

use super::checks::{self, kept, want};
use super::common_root::State;
use super::oci_common::{Packing, entry, layer, layout};
use super::scenarios::{Base, Scenario, scenario};

const IMPORT: [&str; 5] = ["image", "import", "oci:two", "--alias", "img"];

/// The layouts `one` and `two` over the same base; the image `one`.
fn one(state: &State) {
    let base = std::fs::read(state.path("rootfs.tar")).unwrap();
    for name in ["one", "two"] {
        let top = layer(&[entry(name), entry("etc/.wh.notthere")]);
        let layers = [(&base[..], Packing::Gzip), (&top, Packing::Zstd)];
        layout(&state.path(name), &layers, r#"{"Cmd": ["/sbin/init"]}"#);
    }
    state.good(&["image", "import", "oci:one", "--alias", "one"]);
}

fn both(state: &State) {
    one(state);
    state.good(&IMPORT);
}

/// Both can be had, and run.
fn both_work(state: &State, done: bool) -> Result<(), String> {
    let there = state.images()?.len();
    want((1..=2).contains(&there), &format!("{there} images"))?;
    if there == 1 {
        state.run(&IMPORT).good()?;
    }
    for (image, name) in [("one", "c1"), ("two", "c2")] {
        let print = state.run(&["image", "list", "-f", "csv", "-c", "fd"]).good()?;
        let line = print.lines().find(|line| line.contains(&format!(",{image} (OCI)"))).ok_or("it is not there")?;
        let print = line.split(',').next().unwrap_or_default();
        state.run(&["launch", print, name]).good()?;
        state.run(&["file", "pull", &format!("{name}/{image}"), "-"]).good()?;
    }
    kept(state, done)
}

fn imported(state: &State, done: bool) -> Result<(), String> {
    want(state.images()?.len() == 2 || !done, "it was reported imported and is not there")?;
    both_work(state, done)
}

fn deleted(state: &State, done: bool) -> Result<(), String> {
    want(state.images()?.len() == 1 || !done, "it was reported deleted and is there")?;
    both_work(state, done)
}

fn instance_deleted(state: &State, done: bool) -> Result<(), String> {
    checks::deleted(state, done)?;
    both_work(state, done)
}

/// All rows.
pub const ALL: &[Scenario] = &[
    Scenario {
        base: Base::Empty,
        prepare: one,
        ..scenario("import, shared layers", "image import oci:two --alias img", imported)
    },
    Scenario {
        base: Base::Empty,
        prepare: both,
        ..scenario("image delete, shared layers", "image delete img", deleted)
    },
    Scenario {
        base: Base::Empty,
        prepare: both,
        // Of the image there is an instance, but no record.
        before: &["create img c1", "image delete img"],
        ..scenario("delete, shared layers", "delete c1", instance_deleted)
    },
];
