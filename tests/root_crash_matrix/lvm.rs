//! The rows of pools in volume groups. They need the device mapper, which the guest has: `STAPES_MATRIX=lvm
//! tests/guest/root-tier root_crash_matrix`.

use super::checks;
use super::common_root::{self, State};
use super::pools::{GROUP, created_there, deleted, deleted_there, grown, kept_there, made};
use super::pools::{only_the_pool, sized_instance};
use super::scenarios::{Scenario, scenario};
use std::path::Path;

/// There if a pool in a volume group can be made.
const NEEDS: &str = "lvm";
const CREATE: &str = "create img c1 -s p2";
const NAMES: &str = "storage set p2 lvm.vg_name=GROUP-b lvm.thinpool_name=other";

const fn row(
    name: &'static str,
    before: &'static [&'static str],
    verb: &'static str,
    check: fn(&State, bool) -> Result<(), String>,
) -> Scenario {
    Scenario { needs: NEEDS, prepare: chosen, before, ..scenario(name, verb, check) }
}

/// All rows.
pub const ALL: &[Scenario] = &[
    row("lvm storage create", &[], GROUP, made),
    row("lvm storage delete", &[GROUP], "storage delete p2", deleted),
    row("lvm storage set size", &[GROUP], "storage set p2 size=384MiB", grown),
    row("lvm storage set, names", &[GROUP, CREATE], NAMES, kept_there),
    row("lvm launch, not active", &[GROUP, "admin shutdown"], "launch img c1 -s p2", created_there),
    row("lvm snapshot", &[GROUP, CREATE], "snapshot create c1 s1", kept_there),
    row("lvm snapshot restore", &[GROUP, CREATE, "snapshot create c1 s1"], "snapshot restore c1 s1", kept_there),
    row("lvm copy", &[GROUP, CREATE], "copy c1 c3", copied_there),
    row("lvm rename", &[GROUP, CREATE], "rename c1 c2", renamed_there),
    row("lvm delete", &[GROUP, CREATE], "delete c1", deleted_there),
    row(
        "lvm device set size, running",
        &[GROUP, "launch img c1 -s p2 -d root,size=60MiB"],
        "config device set c1 root size=80MiB",
        sized_instance,
    ),
];

/// A file that says so.
pub fn mark(state: &State) {
    if ["lvm", "thin_check"].into_iter().all(common_root::have) && Path::new("/sys/class/misc/device-mapper").exists() {
        std::fs::write(state.path(NEEDS), "").unwrap();
    }
}

/// The pool of this state is one in a volume group.
fn chosen(state: &State) {
    std::fs::write(state.path("group"), "").unwrap();
}

/// The name of a state's group: all groups of the machine are in one list.
pub fn group(state: &State) -> String {
    let name = state.dir.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    format!("matrix{name}")
}

/// No device of the state's group is left.
pub fn no_device(state: &State) -> bool {
    let ours = format!("{}-", group(state));
    let devices = std::fs::read_dir("/sys/class/block").unwrap().flatten();
    !devices
        .filter_map(|device| std::fs::read_to_string(device.path().join("dm/name")).ok())
        .any(|name| name.starts_with(&ours))
}

fn copied_there(state: &State, done: bool) -> Result<(), String> {
    let there = checks::whole_or_absent(state, "c3")?;
    checks::want(there || !done, "it was reported copied and is not there")?;
    kept_there(state, true)
}

fn renamed_there(state: &State, done: bool) -> Result<(), String> {
    checks::renamed(state, done)?;
    only_the_pool(state)
}
