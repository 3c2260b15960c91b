//! Images of virtual machines on servers.

use super::image_server::{Server, Version, tree};
use super::support::State;
use super::{add, first, image_common, metadata, prepared, read};
use std::collections::BTreeSet;
use std::path::Path;

fn names(of: &Path) -> BTreeSet<String> {
    std::fs::read_dir(of).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// A newer version of the machine is on the server: the image is made anew, and its name stays with the type.
fn refreshed(state: &State, root: &[u8], disk: &[u8], old: Version<'_>) {
    let new_meta = metadata(state, 1_800_000_000);
    let container = first(old.meta, root);
    let new = Version { serial: "20260103_00:00", meta: &new_meta, root: disk, ftype: "disk-kvm.img" };
    let new_print = new.fingerprint();
    tree(state.path(), &[container, old, new]);
    assert_eq!(state.good(&["image", "refresh", "machine"]), "Image refreshed successfully!\n");
    let info = state.good(&["image", "info", "machine"]);
    assert!(
        info.starts_with(&format!("Fingerprint: {new_print}\n")) && info.contains("Type: virtual-machine"),
        "{info}"
    );
    let aliases = state.good(&["image", "alias", "list", "-f", "csv", "-c", "at"]);
    assert_eq!(aliases, "machine,VIRTUAL-MACHINE\n");
}

/// A server has a container's and a virtual machine's image of one name: the option decides everywhere.
#[test]
fn containers_and_virtual_machines_of_one_name() {
    let Some(state) = prepared("containers_and_virtual_machines_of_one_name") else { return };
    let (meta, root, disk) = (metadata(&state, 1_700_000_000), read(&state, "rootfs.tar"), image_common::qcow2());
    let machine = |serial| Version { serial, meta: &meta, root: &disk, ftype: "disk-kvm.img" };
    let (container, old) = (first(&meta, &root), machine("20260102_00:00"));
    let (c, m) = (container.fingerprint(), old.fingerprint());
    let [meta_path, disk_path] = old.paths();
    tree(state.path(), &[container, old]);
    let server = Server::start(state.path(), "");
    add(&state);
    for (filter, row) in
        [("container", format!("{c},CONTAINER\n")), ("virtual-machine", format!("{m},VIRTUAL-MACHINE\n"))]
    {
        let filter = format!("type={filter}");
        assert_eq!(state.good(&["image", "list", "mine:", &filter, "-f", "csv", "-c", "Ft"]), row);
    }
    for (options, fingerprint, kind) in [(&[][..], &c, "container"), (&["--vm"], &m, "virtual-machine")] {
        let info = state.good(&[&["image", "info", "mine:test/1"], options].concat());
        assert!(info.starts_with(&format!("Fingerprint: {fingerprint}\n")), "{info}");
        assert!(info.contains(&format!("\nType: {kind}\n")), "{info}");
    }
    assert!(state.good(&["image", "show", "mine:test/1", "--vm"]).contains("type: disk-kvm.img"));

    // Exported without being here: by the fingerprint, or by a name.
    let out = state.path().join("out");
    std::fs::create_dir(&out).unwrap();
    server.requests();
    state.good(&["image", "export", "mine:test/1", "out", "--vm"]);
    assert_eq!(server.requests(), [format!("GET /{meta_path} 200"), format!("GET /{disk_path} 200")]);
    assert_eq!(names(&out), [format!("{m}.qcow2"), format!("meta-{m}.tar.xz")].into());
    assert!(std::fs::read(out.join(format!("{m}.qcow2"))).unwrap() == disk);
    state.good(&["image", "export", "mine:test/1", "given"]);
    assert!(read(&state, "given") == meta && read(&state, "given.root") == root);
    assert_eq!(state.good(&["image", "list", "-f", "csv"]), "", "nothing of it is kept");

    // Copied; the launch of the same name takes the container's, and each is found by the name it came from.
    state.good(&["image", "copy", "mine:test/1", "local:", "--vm", "--alias", "machine", "--auto-update"]);
    assert!(state.good(&["image", "info", "machine"]).contains("Type: virtual-machine"));
    assert!(
        state.bad(&["launch", &format!("mine:{}", &m[..20]), "c1"]).starts_with("Virtual machines are not supported")
    );
    state.good(&["launch", "mine:test/1", "c1"]);
    state.good(&["exec", "c1", "--", "true"]);
    let here = state.good(&["image", "list", "-f", "csv", "-c", "lFt"]);
    assert!(
        here.contains(&format!("machine,{m},VIRTUAL-MACHINE")) && here.contains(&format!("{c},CONTAINER")),
        "{here}"
    );
    server.requests();
    state.good(&["image", "export", "mine:test/1", "out", "--vm"]);
    assert_eq!(server.requests(), Vec::<String>::new(), "it is here");
    assert_eq!(state.good(&["image", "refresh", "machine"]), "Image already up to date.\n");

    refreshed(&state, &root, &disk, machine("20260102_00:00"));
    assert_eq!(state.bad(&["image", "export", "mine:nothing", "out", "--vm"]), "Image \"nothing\" not found");
    state.good(&["delete", "-f", "c1"]);
    state.assert_clean();
}

/// What a server calls a disk has to be one, and leads to no other file.
#[test]
fn disks_of_a_lying_server_leave_nothing() {
    let Some(state) = prepared("disks_of_a_lying_server_leave_nothing") else { return };
    let (meta, root, mut disk) = (metadata(&state, 1_700_000_000), read(&state, "rootfs.tar"), image_common::qcow2());
    add(&state);
    let _server = Server::start(state.path(), "");
    let good = image_common::qcow2();
    disk[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11]);
    let before = state.listing();
    for (root, ftype, option, why) in [
        (&root, "disk-kvm.img", &["--vm"][..], "The server says that the image is a virtual-machine's"),
        (&good, "root.tar.xz", &[], "The server says that the image is a container's"),
        (&disk, "disk-kvm.img", &["--vm"], "its disk needs a backing file"),
        (&b"raw".repeat(999), "disk-kvm.img", &["--vm"], "unknown file type"),
    ] {
        tree(state.path(), &[Version { serial: "20260101_00:00", meta: &meta, root, ftype }]);
        let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
        let error = state.bad(&[&["image", "copy", "mine:test/1", "local:"], option].concat());
        assert!(error.contains(why), "{error}");
        let mut after = state.listing();
        after.retain(|path, _| !path.starts_with("cache"));
        let missing: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
    // Other bytes than the list says: no part of a file is left.
    let version = Version { serial: "20260101_00:00", meta: &meta, root: &good, ftype: "disk-kvm.img" };
    let path = state.path().join("www").join(&version.paths()[1]);
    tree(state.path(), &[version]);
    std::fs::write(path, &disk).unwrap();
    let _ = std::fs::remove_dir_all(state.path().join("cache/simplestreams"));
    std::fs::create_dir(state.path().join("out")).unwrap();
    assert!(!state.bad(&["image", "export", "mine:test/1", "out", "--vm"]).is_empty());
    assert_eq!(std::fs::read_dir(state.path().join("out")).unwrap().count(), 0);
    state.assert_clean();
}
