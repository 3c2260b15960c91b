//! Runs LVM's program.
//!
//! Of LVM's settings those are changed that suit a command without a daemon: devices are looked up in /dev, not at udev, which
//! may not have heard of a new one yet; no archive of the metadata is written at each step; no daemon is started to watch; a thin pool that
//! is full says so at once, for nobody is there to make room.

use crate::error::{Error, Result};
use crate::host::command::{Cmd, Host, Program, Runner};
use std::ffi::OsString;
use std::path::Path;

const LVM: Program = Program { name: "lvm", package: "lvm2" };
const CONFIG: &str =
    "devices{obtain_device_list_from_udev=0} backup{archive=0} activation{monitoring=0 error_when_full=1}";
const WIPEFS: Program = Program { name: "wipefs", package: "util-linux" };

/// Runs `lvm <verb> <words>`; what it asks is answered with no.
///
/// # Errors
/// It is missing; what it says.
pub(super) fn lvm<A: Into<OsString>>(verb: &str, words: impl IntoIterator<Item = A>) -> Result<String> {
    let mut cmd = Cmd::new(LVM).arg(verb).arg("--config").arg(CONFIG).args(words);
    cmd.env.push(("LVM_SUPPRESS_FD_WARNINGS".into(), "1".into()));
    let out = Host::default().run(cmd).map_err(|e| {
        let text = e.to_string();
        match text.contains("insufficient free space") || text.contains("not enough free") {
            true => e.hint("a volume takes its whole size without a thin pool: see \"size\" and \"volume.size\""),
            false if text.contains("reached threshold") => full().caused_by(e),
            false => e,
        }
    })?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What is said of a thin pool without room.
fn full() -> Error {
    Error::conflict("The thin pool is full")
        .hint("delete instances, snapshots or volumes, or make the storage pool larger: storage set <pool> size=<size>")
}

/// Lines of a report: its columns, in order.
///
/// # Errors
/// As [`lvm`].
pub(super) fn report(verb: &str, columns: &str, of: &[&str]) -> Result<Vec<Vec<String>>> {
    let words = ["--noheadings", "--nosuffix", "--units", "b", "--separator", "|", "-o", columns];
    let text = lvm(verb, words.iter().chain(of))?;
    let line = |line: &str| line.split('|').map(|cell| cell.trim().to_string()).collect();
    Ok(text.lines().filter(|l| !l.trim().is_empty()).map(line).collect())
}

/// A number in a report; it may have a fraction.
pub(super) fn number(cell: Option<&String>) -> u64 {
    cell.and_then(|cell| cell.split('.').next()?.parse().ok()).unwrap_or(0)
}

/// What LVM counts sizes in, bytes.
pub(super) const SECTOR: u64 = 512;

/// A size as LVM's verbs take it: whole sectors, one at least. What is over is left out, as by Incus; LVM makes up whole extents.
pub(super) fn bytes(size: u64) -> String {
    format!("{}b", (size / SECTOR).max(1) * SECTOR)
}

/// The size that LVM makes of one, `step` by `step`.
pub(super) fn rounded(size: u64, step: u64) -> u64 {
    let sectors = (size / SECTOR).max(1) * SECTOR;
    sectors.checked_next_multiple_of(step).unwrap_or(sectors)
}

/// Takes off a device what says that it holds something.
///
/// # Errors
/// The program is missing or refuses.
pub(super) fn wipe(device: &Path) -> Result<()> {
    Host::default().run(Cmd::new(WIPEFS).args(["-q", "-a", "--"]).arg(device)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_sectors_and_extents() {
        let shown = [(0, "512b"), (1, "512b"), (1_000_001, "999936b"), (10_000_000, "9999872b"), (4 << 20, "4194304b")];
        for (size, words) in shown {
            assert_eq!(bytes(size), words);
        }
        let extent = 4 << 20;
        assert_eq!(
            [1, 10_000_000, extent, extent + 1, extent + 512].map(|size| rounded(size, extent) >> 20),
            [4, 12, 4, 4, 8]
        );
        assert_eq!(rounded(12 << 20, 2 * extent) >> 20, 16);
        assert_eq!(rounded(u64::MAX, extent), u64::MAX - 511);
    }
}
