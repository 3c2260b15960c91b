//! One test for each row of the security cases that concerns running containers, named after the row: what has gone wrong in
//! tools of this kind must not go wrong here. Through the real program, against real attacks (`probe.c`).
//!
//! # Rows and their tests
//!
//! Where no file is named, the test is a module of this program. `n/a`: what went wrong elsewhere is not there yet.
//!
//! | row | test |
//! |---|---|
//! | CVE-2019-5736 | `binary::cve_2019_5736_unprivileged`, `_privileged`, `_raw_idmap` |
//! | CVE-2024-21626 | `entering::cve_2024_21626_leaked_descriptors` |
//! | CVE-2016-9962 | `binary::cve_2016_9962_attach_is_opaque`, `binary::the_init_of_run_cannot_be_read` |
//! | CVE-2019-16884, -19921, CVE-2023-27561, -28642 | `images::cve_2019_16884_mount_points_are_links`; the label: `tests/root_confinement/rules.rs` |
//! | CVE-2021-30465, CVE-2024-45310 | `images::cve_2021_30465_swapped_mount_point` |
//! | CVE-2025-31133, -52565, CVE-2026-41579, -47766 | `images::cve_2019_16884_mount_points_are_links` |
//! | CVE-2025-52881 | `images::cve_2025_52881_devices_over_proc`; `tests/root_confinement/rules.rs`; `src/sys/child/label.rs` |
//! | CVE-2022-29162, CVE-2025-27612 | `entering::cve_2022_29162_capability_sets` |
//! | CVE-2026-30892 | `entering::cve_2026_30892_user_strings`; `src/base/user.rs` |
//! | CVE-2023-25809, CVE-2022-0492 | `limits::cve_2022_0492_cgroups` |
//! | CVE-2020-15257 | `limits::cve_2020_15257_nothing_listens`, `limits::the_console_socket_is_private` |
//! | CVE-2025-24965, CVE-2026-40226 | `images::cve_2026_40226_images_bring_no_settings`; `src/model/expand.rs` |
//! | CVE-2024-3154 | `absent::cve_2024_3154_no_units`; `src/cli/unit.rs`; `tests/root_systemd.rs`; `src/model/keys/tests.rs` |
//! | CVE-2022-47952, CVE-2018-6556 | `absent::cve_2022_47952_no_helper_with_rights` |
//! | CVE-2022-0185, CVE-2022-0847 | `limits::cve_2022_0185_seccomp_table` |
//! | CVE-2018-15664, CVE-2019-10152, CVE-2021-41089 | `tests/root_files.rs`; `mounts::cve_2018_15664_…`; `src/guest/files_tests.rs`; `tests/image_security.rs` |
//! | CVE-2025-9566, CVE-2026-55686 | `images::cve_2025_9566_templates_stay_inside`; `src/guest/templates/tests.rs` |
//! | RUSTSEC-2018-0002, -2021-0080, -2026-0067 | `tests/image_security.rs`; `tests/image_differential.rs` |
//! | CVE-2025-62518, RUSTSEC-2025-0110, -0111, -2026-0066, -0068, -0112, -0145 | `src/image/tarread_tests.rs`; `tests/image_differential.rs` |
//! | CVE-2021-40153, CVE-2021-41072 | `tests/image_security.rs::cve_2021_40153_names_in_a_squashfs` |
//! | CVE-2017-14992, CVE-2026-47262, -41648, -41685 | `tests/image_bombs.rs`; `tests/image_import.rs` (a squashfs) |
//! | CVE-2024-3056 | `tests/image_security.rs`; `src/image/metadata_tests.rs` |
//! | CVE-2026-40195 and its like: panics | `tests/fuzz`; `tests/root_images.rs::what_is_no_image_leaves_nothing` |
//! | CVE-2026-33542, -48769, -81500, CVE-2025-47290 | `tests/image_security.rs::cve_2026_33542_…`; `src/image/hash.rs` |
//! | CVE-2026-48750, -48749, -63343, -63125, -48752 | `tests/image_security.rs::cve_2026_48750_…`; `tests/storage_conformance.rs` |
//! | CVE-2023-30549 | `tests/image_security.rs::cve_2023_30549_other_file_systems_are_no_images` |
//! | CVE-2026-24708, CVE-2024-4467, -32498 | `tests/image_security.rs::no_images`: disk images are refused |
//! | CVE-2026-35527, -34178, -48753 | n/a: no remotes, restricted users, buckets; a URL is refused: `tests/root_images.rs` |
//! | CVE-2025-64507, CVE-2024-25621, CVE-2021-41091, CVE-2025-4953 | `limits::cve_2025_64507_planted_setuid`; `tests/storage_conformance.rs` |
//! | mounts of the host that are shared | `mounts::no_mount_is_a_peer_of_the_hosts` |
//! | recycled process numbers | `records::a_recycled_pid_is_nobody` |
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_security/absent.rs"]
mod absent;
#[path = "root_security/binary.rs"]
mod binary;
mod common_root;
#[path = "root_security/entering.rs"]
mod entering;
#[path = "root_security/images.rs"]
mod images;
#[path = "root_security/limits.rs"]
mod limits;
#[path = "root_security/mounts.rs"]
mod mounts;
#[path = "root_security/records.rs"]
mod records;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod support;
#[path = "root_security/tools.rs"]
mod tools;
