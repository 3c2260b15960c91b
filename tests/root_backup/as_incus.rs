//! A backup with a volume that goes with its instance, in all its fields as Incus writes it (its `BackupInstance`): the index, then
//! the snapshots and the root, then the same of the volume in a folder named as the device.

use super::common_root::State;
use super::image_common::Ar;
use super::refused;
use super::support::{Ask, state};

/// The device, which stands in the instance, or only among what expands.
const DEVICE: &str = "{dependent: \"true\", path: /data, pool: fast, source: v, type: disk}";

/// The index; `own`: the device is the instance's own.
fn index(own: bool) -> String {
    let root = "root: {path: /, pool: fast, type: disk}";
    let own = if own { format!("{{data-1: {DEVICE}, {root}}}") } else { format!("{{{root}}}") };
    let date = "2026-05-04T03:02:01.123456789Z";
    let pool = "{config: {source: tank/incus, zfs.pool_name: tank/incus, volatile.initial_source: tank/incus}, description: \"\", \
                name: fast, driver: zfs, used_by: [], status: Created, locations: [none]}";
    let volume = |kind: &str, name: &str, config: &str| {
        format!(
            "{{config: {config}, description: of {name}, name: {name}, type: {kind}, used_by: [], location: none, \
             content_type: filesystem, project: default, created_at: {date}}}"
        )
    };
    let of_snapshot = |expires: &str| {
        format!(
            "{{description: then, expires_at: {expires}, name: s1, config: {{size: 1GiB, volatile.uuid: \
             0b3b5c1e-41a6-4f2c-9d0c-000000000002}}, content_type: filesystem, created_at: {date}}}"
        )
    };
    let config = "{image.os: Debian, volatile.base_image: \"\", volatile.uuid: d3c4c1a7-9adf-40ab-863d-d3415dacac58, \
                  volatile.last_state.idmap: \"[]\", volatile.idmap.base: \"0\", user.x: \"1\"}";
    let instance = format!(
        "architecture: x86_64, config: {config}, devices: {own}, ephemeral: false, profiles: [default], stateful: false, \
         expanded_config: {config}, expanded_devices: {{data-1: {DEVICE}, {root}}}, created_at: {date}, last_used_at: {date}"
    );
    let own_keys = "{size: 1GiB, zfs.blocksize: 16KiB, user.k: k, volatile.idmap.last: \"[]\", volatile.uuid: \
                    0b3b5c1e-41a6-4f2c-9d0c-000000000001}";
    format!(
        "name: c9\nbackend: zfs\npool: fast\nsnapshots:\n    - s1\noptimized: false\noptimized_header: false\ntype: \
         container\nconfig:\n    container: {{{instance}, description: \"\", name: c9, status: Stopped, status_code: 102, \
         location: none, type: container, project: default}}\n    snapshots:\n        - {{{instance}, expires_at: \
         0001-01-01T00:00:00Z, name: s1, size: 0}}\n    pool: {pool}\n    profiles:\n        - {{config: {{}}, description: \
         Default, devices: {{eth0: {{name: eth0, network: incusbr0, type: nic}}}}, name: default, used_by: [], project: \
         default}}\n    volume: {}\n    volume_snapshots:\n        - {}\n    dependent_volumes:\n        - pool: {pool}\n          \
         volume: {}\n          volume_snapshots:\n            - {}\n",
        volume("container", "c9", "{volatile.uuid: 0b3b5c1e-41a6-4f2c-9d0c-000000000003}"),
        of_snapshot("0001-01-01T00:00:00Z"),
        volume("custom", "v", own_keys),
        of_snapshot("2030-01-01T00:00:00Z"),
    )
}

/// The archive; folders have no slash at the end.
fn archive(index: &str) -> Vec<u8> {
    let mut ar = Ar::default().file("backup/index.yaml", index.as_bytes());
    for at in ["backup/snapshots/s1", "backup/container"] {
        ar = ar
            .dir(at, 0o100)
            .file(&format!("{at}/backup.yaml"), index.as_bytes())
            .file(&format!("{at}/metadata.yaml"), b"architecture: x86_64\ncreation_date: 1\n")
            .dir(&format!("{at}/rootfs"), 0o755)
            .file(&format!("{at}/rootfs/f"), at.as_bytes());
    }
    for at in ["backup/data-1/volume-snapshots/s1", "backup/data-1/volume"] {
        ar = ar.dir(at, 0o711).file(&format!("{at}/f"), at.as_bytes());
    }
    ar.finish()
}

fn volume(state: &State, words: &[&str]) -> String {
    state.good(&[&["storage", "volume"], words].concat())
}

#[test]
fn what_incus_writes_is_read() {
    let Some(state) = state("what_incus_writes_is_read") else { return };
    std::fs::write(state.path("own"), archive(&index(true))).unwrap();
    std::fs::write(state.path("profiles"), archive(&index(false))).unwrap();
    let whole = || {
        assert_eq!(volume(&state, &["get", "default", "v", "user.k"]), "k\n");
        assert_eq!(volume(&state, &["get", "default", "v", "zfs.blocksize"]), "");
        let shown = volume(&state, &["show", "default", "v"]);
        assert!(shown.contains("description: of v\n") && shown.contains("created_at: 2026-05-04T03:02:01"), "{shown}");
        let snapshot = volume(&state, &["snapshot", "show", "default", "v/s1"]);
        assert!(snapshot.contains("description: then\n") && snapshot.contains("expires_at: 2030-01-01"), "{snapshot}");
        for (file, from) in [("v/f", "volume"), ("v/f", "volume-snapshots/s1")] {
            assert_eq!(volume(&state, &["file", "pull", "default", file, "-"]), format!("backup/data-1/{from}"));
            state.good(&["snapshot", "restore", "c9", "s1"]);
        }
        assert_eq!(state.good(&["file", "pull", "c9/f", "-"]), "backup/snapshots/s1");
        state.good(&["delete", "c9"]);
        let left = volume(&state, &["list", "default", "type=custom", "-f", "csv"]);
        assert_eq!(left, "", "they went with it");
    };
    state.good(&["import", "own"]);
    whole();
    // No profile has such a device: then nobody would have the volume.
    let out = state.run(&["import", "profiles"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Requested volume \"v\" on pool \"fast\" is not attached to the instance"), "{out}");
    state.finish();
}

#[test]
fn hostile_forms_of_what_incus_writes() {
    let Some(state) = state("hostile_forms_of_what_incus_writes") else { return };
    let mut wrong = String::new();
    for (from, to, said) in [
        ("name: v, type", "name: ../../v, type", "is not attached to the instance"),
        ("source: v,", "source: ../v,", "is not attached to the instance"),
        ("pool: fast, source", "pool: slow, source", "is not attached to the instance"),
        ("pool: fast, source", "pool: ../fast, source", "is not attached to the instance"),
        (
            "dependent_volumes:\n        - pool: {config",
            "dependent_volumes:\n        - x: {config",
            "Bad dependent volume",
        ),
        ("data-1: {dep", "../data-1: {dep", "nvalid"),
        ("data-1: {dep", "data-2: {dep", "belongs to nothing"),
        ("expires_at: 2030-01-01T00:00:00Z, name: s1", "expires_at: 2030-01-01T00:00:00Z, name: ..", "nvalid"),
        ("user.k: k", "size: -1", "size"),
    ] {
        let bad = index(true).replace(from, to);
        assert_ne!(bad, index(true), "{from}");
        wrong += &refused(&state, to, &archive(&bad), said);
    }
    assert!(wrong.is_empty(), "{wrong}");
    state.finish();
}
