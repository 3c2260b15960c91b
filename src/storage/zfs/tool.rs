//! Runs ZFS's programs. They load the kernel's module themselves.

use crate::error::{Error, Result};
use crate::host::command::{Cmd, Host, Program, Runner};
use std::path::Path;

const ZFS: Program = Program { name: "zfs", package: "zfsutils-linux" };
const ZPOOL: Program = Program { name: "zpool", package: "zfsutils-linux" };
const WIPEFS: Program = Program { name: "wipefs", package: "util-linux" };

fn run(program: Program, words: &[&str]) -> Result<String> {
    let out = Host::default().run(Cmd::new(program).args(words.iter().copied()))?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs `zfs <words>`. Names that we make begin with no dash.
///
/// # Errors
/// It is missing; what it says.
pub(super) fn zfs(words: &[&str]) -> Result<String> {
    run(ZFS, words)
}

/// Runs `zpool <words>`.
///
/// # Errors
/// As [`zfs`].
pub(super) fn zpool(words: &[&str]) -> Result<String> {
    run(ZPOOL, words)
}

/// What a program says of something that is not there.
pub(super) fn is_missing(e: &Error) -> bool {
    let said = e.to_string();
    ["does not exist", "no such pool", "could not find any snapshots"].iter().any(|text| said.contains(text))
}

/// None if what was asked for is not there.
///
/// # Errors
/// All others.
pub(super) fn if_there(said: Result<String>) -> Result<Option<String>> {
    match said {
        Err(e) if is_missing(&e) => Ok(None),
        other => other.map(Some),
    }
}

/// Values of properties of a dataset, in the order asked for; `-` for none, numbers in bytes. None: it is not there.
///
/// # Errors
/// As [`zfs`].
pub(super) fn get(properties: &str, dataset: &str) -> Result<Option<Vec<String>>> {
    let said = if_there(zfs(&["get", "-Hp", "-o", "value", properties, dataset]))?;
    Ok(said.map(|text| text.lines().map(String::from).collect()))
}

/// Takes off a device what says that it holds something.
///
/// # Errors
/// As [`zfs`].
pub(super) fn wipe(device: &Path) -> Result<()> {
    Host::default().run(Cmd::new(WIPEFS).args(["-q", "-a", "--"]).arg(device)).map(drop)
}
