//! The crash matrix (design, section 12): every fault point that a mutating verb passes, and a kill, ENOSPC or EIO there.
//! Afterwards the list works, other objects can be worked on, the object is whole or absent, and once everything is deleted
//! `doctor` finds nothing to mend and nothing is left on disk or in the kernel.
//!
//! Errors go by turns, see the runner; `STAPES_MATRIX_WHOLE=1`, as `tests/run --whole` sets it, tries both at each point.
//! `STAPES_MATRIX=start,restart` runs only the scenarios whose name contains one of the words; `STAPES_MATRIX_POINT=exit.`
//! only the points that do. `STAPES_TEST_KEEP=1` leaves the state folders behind.
//!
//! What needs AppArmor, the controller cpuset or the device mapper runs in the guest: `tests/guest/root-tier` selects the rows with
//! limits of CPUs, at the points that the first two add, and a point of a row of `lvm`. All of those: `STAPES_MATRIX=lvm
//! STAPES_MATRIX_POINT=pool.,storage. tests/guest/root-tier root_crash_matrix`. The row with a limit of a disk wants the controller io:
//! `STAPES_MATRIX='device add, limit' STAPES_MATRIX_POINT=live.`, likewise.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_crash_matrix/checks.rs"]
mod checks;
mod common_root;
#[path = "root_crash_matrix/dependents.rs"]
mod dependents;
mod image_common;
mod image_server;
#[path = "root_crash_matrix/layers.rs"]
mod layers;
#[path = "root_crash_matrix/lvm.rs"]
mod lvm;
#[path = "root_crash_matrix/metadata.rs"]
mod metadata;
#[path = "root_crash_matrix/nics.rs"]
mod nics;
mod oci_common;
#[path = "root_crash_matrix/pools.rs"]
mod pools;
#[path = "root_crash_matrix/projects.rs"]
mod projects;
#[path = "root_crash_matrix/proxies.rs"]
mod proxies;
#[path = "root_crash_matrix/runner.rs"]
mod runner;
#[path = "root_crash_matrix/scenarios.rs"]
mod scenarios;
#[path = "root_crash_matrix/snapshots.rs"]
mod snapshots;
#[path = "root_crash_matrix/volumes.rs"]
mod volumes;
#[path = "root_crash_matrix/zfs.rs"]
mod zfs;
#[path = "root_crash_matrix/zones.rs"]
mod zones;

#[test]
fn crash_matrix() {
    const NAME: &str = "crash_matrix";
    if !common_root::can_run(NAME) {
        return;
    }
    let Some(bin) = common_root::faults_binary(NAME) else { return };
    if !common_root::have("busybox") {
        return common_root::skip(NAME, "no busybox (apt-get install busybox-static)");
    }
    let matrix = runner::Matrix::new(&bin);
    let bad = [
        matrix.run(scenarios::ALL),
        matrix.run(snapshots::ALL),
        matrix.run(volumes::ALL),
        matrix.run(dependents::ALL),
        matrix.run(pools::ALL),
        matrix.run(lvm::ALL),
        matrix.run(projects::ALL),
        matrix.run(nics::ALL),
        matrix.run(zfs::ALL),
        matrix.run(layers::ALL),
        matrix.run(metadata::ALL),
    ]
    .concat();
    assert!(bad.is_empty(), "{} bad cases:\n{}", bad.len(), bad.join("\n"));
}
