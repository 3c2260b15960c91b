//! The contract of a storage driver, run for every driver (design, section 8). Needs root: owners, devices and overlay
//! mounts are real. File systems are made detached and used through their descriptors; only the one for btrfs, in a file, is
//! mounted in a folder of its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "storage_conformance/custom.rs"]
mod custom;
#[path = "storage_conformance/faithful.rs"]
mod faithful;
#[path = "storage_conformance/support.rs"]
mod support;
#[path = "storage_conformance/zfs.rs"]
mod zfs;

use stapes::base::idmap::IdMap;
use stapes::error::Kind;
use stapes::storage::{self, DRIVERS, ImageFate, VolumeKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::*;

/// Runs `test` once for each driver on a fresh pool; with `STAPES_TEST_DRIVERS=lvm,…` for these alone.
fn each(name: &str, test: impl Fn(&Pool)) {
    if !root(name) {
        return;
    }
    let chosen = std::env::var("STAPES_TEST_DRIVERS").ok();
    let wanted = |driver: &&str| chosen.as_ref().is_none_or(|all| all.split(',').any(|word| driver.starts_with(word)));
    for driver in DRIVERS.iter().copied().chain(["lvm, not thin"]).filter(wanted) {
        eprintln!("{name}: {driver}");
        match Pool::fitting(driver) {
            Some(pool) => test(&pool),
            None => eprintln!(
                "SKIP {name}: nothing for {driver} to be on (apt-get install btrfs-progs lvm2 thin-provisioning-tools zfsutils-linux zfs-dkms)"
            ),
        }
    }
}

#[test]
fn image_is_there_after_commit_only() {
    each("image_is_there_after_commit_only", |pool| {
        let fp = fingerprint(1);
        assert_eq!(pool.driver.commit_image(&staging(&fp), &fp).unwrap_err().kind(), Kind::NotFound);
        let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
        std::fs::create_dir(staged.join("junk")).unwrap();
        assert!(!pool.driver.has_image(&fp).unwrap());
        assert!(pool.driver.images().unwrap().is_empty());
        // Begun again, after a kill: the junk is gone.
        let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
        assert_eq!(std::fs::read_dir(&staged).unwrap().count(), 0);
        plain_image(&staged);
        pool.driver.commit_image(&staging(&fp), &fp).unwrap();
        pool.driver.commit_image(&staging(&fp), &fp).unwrap();
        assert!(pool.driver.has_image(&fp).unwrap());
        assert_eq!(pool.driver.images().unwrap(), std::slice::from_ref(&fp));
        // A second unpacking of the same image changes nothing.
        plain_image(&pool.driver.begin_image(&staging(&fp)).unwrap());
        pool.driver.commit_image(&staging(&fp), &fp).unwrap();
        assert_eq!(pool.driver.images().unwrap(), [fp]);
    });
}

/// Rows CVE-2026-48750, -48749, -63343: `rootfs` and `metadata.yaml` shipped as links.
#[test]
fn cve_2026_48750_links_for_parts_of_an_image() {
    each("cve_2026_48750", |pool| {
        for name in ["rootfs", "metadata.yaml", "templates"] {
            let fp = fingerprint(2);
            let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
            plain_image(&staged);
            let _ = std::fs::remove_dir_all(staged.join(name));
            let _ = std::fs::remove_file(staged.join(name));
            std::os::unix::fs::symlink("/etc", staged.join(name)).unwrap();
            assert_eq!(pool.driver.commit_image(&staging(&fp), &fp).unwrap_err().kind(), Kind::Invalid, "{name}");
            assert!(!pool.driver.has_image(&fp).unwrap());
        }
    });
}

#[test]
fn volume_from_image_is_faithful() {
    each("volume_from_image_is_faithful", |pool| {
        let fp = fingerprint(3);
        let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
        plain_image(&staged);
        faithful::build(&staged.join("rootfs"));
        let expected = faithful::describe(&staged.join("rootfs"));
        pool.driver.commit_image(&staging(&fp), &fp).unwrap();
        let volume = container("c1");
        pool.driver.create_from_image(&volume, &fp).unwrap();
        let mounted = assemble(&pool.driver.rootfs(&volume).unwrap());
        faithful::same(&expected, &faithful::describe(&mounted.path()));
        let metadata = pool.driver.metadata(&volume).unwrap();
        assert_eq!(std::fs::read(metadata.join("metadata.yaml")).unwrap(), b"architecture: x86_64\n");
        assert!(metadata.join("templates/hostname.tpl").is_file());
        // A copy of a copy.
        drop(mounted);
        let copy = container("c2");
        pool.driver.copy(&volume, &copy).unwrap();
        faithful::same(&expected, &faithful::describe(&assemble(&pool.driver.rootfs(&copy).unwrap()).path()));
    });
}

#[test]
fn volumes_are_independent() {
    each("volumes_are_independent", |pool| {
        let fp = pool.image(4);
        let (one, two) = (container("one"), container("two"));
        pool.driver.create_from_image(&one, &fp).unwrap();
        pool.driver.create_from_image(&two, &fp).unwrap();
        let (a, b) = (assemble(&pool.driver.rootfs(&one).unwrap()), assemble(&pool.driver.rootfs(&two).unwrap()));
        std::fs::write(a.path().join("etc/hostname"), "changed").unwrap();
        std::fs::remove_file(a.path().join("etc/os-release")).unwrap();
        std::fs::remove_dir_all(a.path().join("usr")).unwrap();
        std::fs::create_dir(a.path().join("usr")).unwrap();
        assert_eq!(std::fs::read(b.path().join("etc/hostname")).unwrap(), b"image\n");
        assert!(b.path().join("etc/os-release").exists());
        // The copy has the changes: new content, deletions, a replaced folder.
        drop(a);
        let three = container("three");
        pool.driver.copy(&one, &three).unwrap();
        let c = assemble(&pool.driver.rootfs(&three).unwrap());
        assert_eq!(std::fs::read(c.path().join("etc/hostname")).unwrap(), b"changed");
        assert!(!c.path().join("etc/os-release").exists());
        assert_eq!(std::fs::read_dir(c.path().join("usr")).unwrap().count(), 0);
        assert!(pool.driver.usage(&three).unwrap().bytes > 0);
        assert_eq!(pool.driver.copy(&one, &three).unwrap_err().kind(), Kind::Exists);
        assert_eq!(pool.driver.copy(&container("none"), &container("x")).unwrap_err().kind(), Kind::NotFound);
    });
}

#[test]
fn root_folder_looks_as_the_images() {
    each("root_folder_looks_as_the_images", |pool| {
        for (n, mode, uid) in [(5, 0o755, 0), (6, 0o711, 1000), (7, 0o1777, 33)] {
            let fp = fingerprint(n);
            let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
            plain_image(&staged);
            let rootfs = staged.join("rootfs");
            std::os::unix::fs::chown(&rootfs, Some(uid), Some(uid)).unwrap();
            std::fs::set_permissions(&rootfs, std::fs::Permissions::from_mode(mode)).unwrap();
            pool.driver.commit_image(&staging(&fp), &fp).unwrap();
            let volume = container(&format!("c{n}"));
            pool.driver.create_from_image(&volume, &fp).unwrap();
            let stat = std::fs::metadata(assemble(&pool.driver.rootfs(&volume).unwrap()).path()).unwrap();
            assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (mode, uid, uid));
        }
        let empty = container("empty");
        pool.driver.create_empty(&empty).unwrap();
        let mounted = assemble(&pool.driver.rootfs(&empty).unwrap());
        assert_eq!(std::fs::metadata(mounted.path()).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(std::fs::read_dir(mounted.path()).unwrap().count(), 0);
        assert_eq!(pool.driver.create_empty(&empty).unwrap_err().kind(), Kind::Exists);
    });
}

#[test]
fn every_step_may_come_twice() {
    each("every_step_may_come_twice", |pool| {
        let fp = pool.image(8);
        let (one, two) = (container("one"), container("two"));
        let d = &pool.driver;
        assert_eq!(d.create_from_image(&one, &fingerprint(99)).unwrap_err().kind(), Kind::NotFound);
        assert!(!d.exists(&one).unwrap());
        // What a killed process left at the staging place is replaced.
        let left = pool.data.join("containers/.new-one/rootfs/deep");
        std::fs::create_dir_all(&left).unwrap();
        assert!(!d.exists(&one).unwrap());
        assert!(d.list(VolumeKind::Container).unwrap().is_empty());
        d.create_from_image(&one, &fp).unwrap();
        assert!(!left.exists());
        assert_eq!(d.create_from_image(&one, &fp).unwrap_err().kind(), Kind::Exists);
        d.rename(&one, &two).unwrap();
        d.rename(&one, &two).unwrap();
        assert_eq!(d.list(VolumeKind::Container).unwrap(), std::slice::from_ref(&two));
        assert_eq!(d.rename(&one, &container("three")).unwrap_err().kind(), Kind::NotFound);
        d.create_from_image(&one, &fp).unwrap();
        assert_eq!(d.rename(&one, &two).unwrap_err().kind(), Kind::Exists);
        assert!(d.rootfs(&two).is_ok());
        let trash = d.delete(&one).unwrap().expect("it was there");
        assert!(d.delete(&one).unwrap().is_none());
        assert_eq!(d.trash().unwrap(), std::slice::from_ref(&trash));
        d.empty(&trash).unwrap();
        d.empty(&trash).unwrap();
        assert!(d.trash().unwrap().is_empty());
        // Half made, then deleted by the undo.
        std::fs::create_dir_all(&left).unwrap();
        assert!(d.delete(&one).unwrap().is_none());
        assert!(!left.exists());
        for gone in [d.rootfs(&one).unwrap_err(), d.usage(&one).unwrap_err(), d.metadata(&one).unwrap_err()] {
            assert_eq!(gone.kind(), Kind::NotFound);
        }
    });
}

#[test]
fn image_stays_while_it_is_used() {
    each("image_stays_while_it_is_used", |pool| {
        let fp = pool.image(9);
        let d = &pool.driver;
        let (one, two, three) = (container("one"), container("two"), container("three"));
        d.create_from_image(&one, &fp).unwrap();
        d.copy(&one, &two).unwrap();
        d.rename(&one, &three).unwrap();
        if d.caps().uses_image {
            assert_eq!(d.delete_image(&fp).unwrap(), ImageFate::InUse(vec![three.clone(), two.clone()]));
            assert!(d.has_image(&fp).unwrap());
            d.delete(&two).unwrap();
            assert_eq!(d.delete_image(&fp).unwrap(), ImageFate::InUse(vec![three.clone()]));
            // Killed between the mark and the volume: the mark does not hold the image for ever.
            let mark = pool.data.join(format!("images/{fp}.users/containers:ghost"));
            std::os::unix::fs::symlink("nowhere", mark).unwrap();
            d.delete(&three).unwrap();
        }
        let ImageFate::Gone(Some(trash)) = d.delete_image(&fp).unwrap() else { panic!("still used") };
        assert!(!d.has_image(&fp).unwrap());
        assert_eq!(d.delete_image(&fp).unwrap(), ImageFate::Gone(None));
        d.empty(&trash).unwrap();
        if !d.caps().uses_image {
            let mounted = assemble(&d.rootfs(&three).unwrap());
            assert!(mounted.path().join("etc/hostname").exists());
        }
        // Nothing of the image is left.
        assert_eq!(std::fs::read_dir(pool.data.join("images")).unwrap().count(), 0);
    });
}

/// Row CVE-2025-64507: files on disk belong to container root, which is real root while they are unshifted.
#[test]
fn cve_2025_64507_set_uid_files_are_out_of_reach() {
    each("cve_2025_64507", |pool| {
        // The temporary folder itself must not be what protects us.
        let above = pool.data.parent().unwrap();
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&pool.data, std::fs::Permissions::from_mode(0o755)).unwrap();
        let fp = pool.image(10);
        let volume = container("c1");
        pool.driver.create_from_image(&volume, &fp).unwrap();
        pool.driver.create_empty(&container("c2")).unwrap();
        let mounted = assemble(&pool.driver.rootfs(&volume).unwrap());
        let planted = mounted.path().join("evil");
        std::fs::copy("/bin/true", &planted).unwrap();
        std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o4755)).unwrap();
        let reach = |path: &Path| {
            let mut sh = Command::new("/bin/sh");
            sh.args(["-c", "test -e \"$0\""]).arg(path).uid(65534).gid(65534);
            sh.status().unwrap().success()
        };
        assert!(reach(&pool.data), "the check itself works");
        let mut found = Vec::new();
        walk(&pool.data, &mut found);
        assert!(found.iter().any(|p| p.ends_with("evil")), "planted where the host could see it");
        for path in &found {
            assert!(!reach(path) || path.parent() == Some(&pool.data), "{} can be reached", path.display());
        }
        // And yet the container's ids can: by the mount's descriptor, past the closed folders above.
        let mut sh = Command::new("/bin/sh");
        sh.args(["-c", "exec cat /proc/self/fd/0/etc/hostname >/dev/null"]);
        sh.stdin(mounted.fd.try_clone().unwrap()).uid(65534).gid(65534);
        assert!(sh.status().unwrap().success());
        std::fs::set_permissions(&pool.data, std::fs::Permissions::from_mode(0o700)).unwrap();
    });
}

#[test]
fn deep_and_wide_trees() {
    each("deep_and_wide_trees", |pool| {
        let fp = fingerprint(11);
        let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
        plain_image(&staged);
        faithful::deep(&staged.join("rootfs"), 3000);
        pool.driver.commit_image(&staging(&fp), &fp).unwrap();
        let (one, two) = (container("one"), container("two"));
        pool.driver.create_from_image(&one, &fp).unwrap();
        pool.driver.copy(&one, &two).unwrap();
        let usage = pool.driver.usage(&two).unwrap();
        assert!(pool.driver.caps().uses_image || usage.inodes > 6000, "{usage:?}");
        for volume in [&one, &two] {
            pool.driver.empty(&pool.driver.delete(volume).unwrap().unwrap()).unwrap();
        }
        let ImageFate::Gone(Some(trash)) = pool.driver.delete_image(&fp).unwrap() else { panic!("still used") };
        pool.driver.empty(&trash).unwrap();
        assert!(pool.driver.trash().unwrap().is_empty());
    });
}

/// The root folder of an image could tell overlayfs to hide what is below.
#[test]
fn image_cannot_instruct_overlayfs() {
    if !root("image_cannot_instruct_overlayfs") {
        return;
    }
    let pool = Pool::new("overlay");
    let fp = fingerprint(12);
    let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
    plain_image(&staged);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(staged.join("rootfs"), c"trusted.overlay.opaque", b"y", flags).unwrap();
    pool.driver.commit_image(&staging(&fp), &fp).unwrap();
    assert_eq!(pool.driver.create_from_image(&container("c1"), &fp).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn shift_on_disk_and_back() {
    if !root("shift_on_disk_and_back") {
        return;
    }
    let map = IdMap::simple(1_000_000, 65_536).unwrap();
    let pool = Pool::new("dir");
    let fp = fingerprint(13);
    let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
    plain_image(&staged);
    faithful::build(&staged.join("rootfs"));
    pool.driver.commit_image(&staging(&fp), &fp).unwrap();
    let volume = container("c1");
    pool.driver.create_from_image(&volume, &fp).unwrap();
    let rootfs = pool.data.join("containers/c1/rootfs");
    let before = faithful::describe(&rootfs);
    let old = pool.driver.shift(&volume, &map).unwrap().expect("the old tree");
    pool.driver.empty(&old).unwrap();
    assert!(pool.driver.shift(&volume, &map).unwrap().is_none());
    faithful::shifted(&before, &faithful::describe(&rootfs), 1_000_000);
    assert_eq!(std::fs::metadata(pool.data.join("containers/c1")).unwrap().uid(), 0);
    // Killed after the swap, before the old tree was thrown away.
    std::fs::create_dir(pool.data.join("containers/.new-c1")).unwrap();
    pool.driver.empty(&pool.driver.shift(&volume, &map).unwrap().expect("what was left")).unwrap();
    let other = IdMap::simple(3_000_000, 65_536).unwrap();
    pool.driver.shift(&volume, &other).unwrap();
    faithful::shifted(&before, &faithful::describe(&rootfs), 3_000_000);
    pool.driver.shift(&volume, &IdMap::default()).unwrap();
    faithful::same(&before, &faithful::describe(&rootfs));
    // Where the swap takes two renames: killed between them.
    std::fs::rename(pool.data.join("containers/c1"), pool.data.join("containers/.new-c1")).unwrap();
    assert!(!pool.driver.exists(&volume).unwrap());
    pool.driver.shift(&volume, &map).unwrap();
    faithful::shifted(&before, &faithful::describe(&rootfs), 1_000_000);
    let overlay = storage::driver("overlay", &pool.data).unwrap();
    assert_eq!(overlay.shift(&volume, &map).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn file_systems_and_the_best_driver() {
    if !root("file_systems_and_the_best_driver") {
        return;
    }
    let userns = UserNs::new(&IdMap::simple(1_000_000, 65_536).unwrap());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    // tmpfs has had id maps since Linux 6.3.
    let maps = (numbers.next(), numbers.next()) >= (Some(6), Some(3));
    for (name, overlay, idmap) in [("tmpfs", true, maps), ("ramfs", false, false)] {
        let fs = Attached::new(&detached(name, &[]));
        let features = storage::probe::features(fs.path(), Some(userns.fd.as_fd())).unwrap();
        assert_eq!(features.idmap, Some(idmap), "{name}");
        assert_eq!(features.overlay, overlay, "{name}");
        assert!(!features.reflink, "{name}");
        assert_eq!(std::fs::read_dir(fs.path()).unwrap().count(), 0, "the probe leaves nothing");
        let best = storage::probe::best_driver(&features);
        assert_eq!(best, if idmap { "overlay" } else { "dir" });
        // The whole way on it: also without extended attributes.
        let pool = Pool::at(&fs.path().join("pool"), best);
        let fp = pool.image(14);
        pool.driver.create_from_image(&container("c1"), &fp).unwrap();
        assert!(assemble(&pool.driver.rootfs(&container("c1")).unwrap()).path().join("etc/hostname").exists());
        if best == "dir" {
            pool.driver.shift(&container("c1"), &IdMap::simple(100_000, 65_536).unwrap()).unwrap();
            let stat = std::fs::metadata(pool.data.join("containers/c1/rootfs/etc/hostname")).unwrap();
            assert_eq!(stat.uid(), 100_000);
        }
    }
    let no_idmap = storage::probe::Features { overlay: true, reflink: false, idmap: Some(false) };
    assert_eq!(storage::probe::best_driver(&no_idmap), "dir");
}

/// Files pushed into an instance whose root is mounted with its id map: owners are the instance's, on disk too.
#[test]
fn files_through_an_id_mapped_root() {
    use stapes::container::rootfs::{self, Mapping, Options};
    use stapes::guest::{self, Root, files, templates};
    each("files_through_an_id_mapped_root", |pool| {
        let ids = IdMap::simple(1_000_000, 65_536).unwrap();
        let userns = UserNs::new(&ids);
        let probed = storage::probe::features(&pool.data.join("trash"), Some(userns.fd.as_fd())).unwrap();
        if pool.driver.caps().shift_on_disk && probed.idmap == Some(false) {
            return eprintln!("SKIP {}: no id-mapped mounts of this file system", pool.driver.name());
        }
        let (fp, volume) = (pool.image(18), container("c1"));
        pool.driver.create_from_image(&volume, &fp).unwrap();
        let mapping = Mapping { userns: userns.fd.as_fd(), root_uid: 1_000_000, root_gid: 1_000_000 };
        let scratch = tempfile::tempdir().unwrap();
        let options = Options { mapping: Some(mapping), scratch: Some(scratch.path()), ..Options::default() };
        let mounted = rootfs::mount(&pool.driver.rootfs(&volume).unwrap(), &options).unwrap();
        let root = Root { fd: mounted.as_fd(), ids: &ids };
        let push = |path: &str, content: files::Content<'_>| {
            let given = files::Attributes { uid: Some(1000), gid: Some(1001), mode: Some(0o640) };
            files::push(&root, Path::new(path), content, &given, true).unwrap();
            let pulled = files::pull(&root, Path::new(path), false).unwrap();
            assert_eq!((pulled.owner.uid, pulled.owner.gid), (1000, 1001), "{path}");
        };
        push("/srv/new/file", files::Content::File(&mut &b"hello"[..]));
        push("/etc/hostname", files::Content::File(&mut &b"hello"[..]));
        push("/srv/folder", files::Content::Directory);
        push("/srv/link", files::Content::Symlink("file".as_ref()));
        assert_eq!(files::pull(&root, Path::new("/srv/new"), true).unwrap().owner.uid, 0);
        // An owner the instance does not have is nobody in it.
        let strange = pool.driver.image_metadata(&fp).join("rootfs/etc/os-release");
        std::os::unix::fs::chown(&strange, Some(70_000), Some(70_000)).unwrap();
        if pool.driver.caps().uses_image {
            let pulled = files::pull(&root, Path::new("/etc/os-release"), true).unwrap();
            assert_eq!(pulled.owner.uid, guest::NOBODY);
        }
        let sources = std::fs::File::open(pool.driver.metadata(&volume).unwrap().join("templates")).unwrap();
        let wanted = templates::Template {
            path: "/etc/deep/name".into(),
            source: "hostname.tpl".into(),
            create_only: false,
            properties: Default::default(),
            owner: templates::owner("7", "", "0600").unwrap(),
        };
        let instance = [("name".to_string(), "c1".to_string())].into();
        let (config, devices) = Default::default();
        let scope = templates::Scope { trigger: "start", instance: &instance, config: &config, devices: &devices };
        assert!(templates::apply(&root, sources.as_fd(), &wanted, &scope).unwrap());
        drop(mounted);
        let disk = assemble(&pool.driver.rootfs(&volume).unwrap());
        let owner = |path: &str| {
            let stat = std::fs::symlink_metadata(disk.path().join(path)).unwrap();
            (stat.uid(), stat.gid())
        };
        for path in ["srv/new/file", "etc/hostname", "srv/folder", "srv/link"] {
            assert_eq!(owner(path), (1000, 1001), "{path}");
        }
        assert_eq!((owner("srv"), owner("srv/new"), owner("etc/deep/name")), ((0, 0), (0, 0), (7, 0)));
        assert_eq!(std::fs::read(disk.path().join("etc/deep/name")).unwrap(), b"c1\n");
    });
}

/// Five copies of 64 MiB must fit where two would not.
#[test]
fn copies_share_blocks() {
    for fs in ["btrfs", "xfs"] {
        let name = format!("copies_share_blocks ({fs})");
        let Some(loopback) = root(&name).then(|| Loop::new(fs)).flatten() else {
            eprintln!("SKIP {name}: no root, no mkfs.{fs} or no loop device");
            continue;
        };
        let place = Attached::new(&loopback.mount);
        let features = storage::probe::features(place.path(), None).unwrap();
        assert!(features.reflink, "{fs}");
        assert!(features.overlay, "{fs}");
        let pool = Pool::at(&place.path().join("pool"), "dir");
        let fp = fingerprint(15);
        let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
        plain_image(&staged);
        let noise: Vec<u8> = (0..64u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(staged.join("rootfs/big"), &noise).unwrap();
        pool.driver.commit_image(&staging(&fp), &fp).unwrap();
        for i in 0..5 {
            let volume = container(&format!("c{i}"));
            pool.driver.create_from_image(&volume, &fp).unwrap();
            assert_eq!(std::fs::read(pool.data.join(format!("containers/c{i}/rootfs/big"))).unwrap(), noise);
        }
        let free = rustix::fs::fstatvfs(&loopback.mount.fd).unwrap();
        let used = (free.f_blocks - free.f_bfree) * free.f_frsize;
        assert!(used < 200 << 20, "{fs}: {used} bytes used");
    }
}

#[test]
fn pool_others_can_write_is_refused() {
    if !root("pool_others_can_write_is_refused") {
        return;
    }
    let pool = Pool::new("dir");
    std::os::unix::fs::symlink(&pool.data, pool.data.with_extension("link")).unwrap();
    assert!(storage::driver("dir", &pool.data.with_extension("link")).is_err());
    assert_eq!(storage::driver("none", &pool.data).unwrap_err().kind(), Kind::Invalid);
    std::fs::set_permissions(&pool.data, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(storage::driver("dir", &pool.data).unwrap_err().kind(), Kind::Denied);
    assert_eq!(storage::driver("dir", Path::new("/nonexistent/pool")).unwrap_err().kind(), Kind::NotFound);
}

/// Prints what a launch and a copy cost beside `cp -a`; run by hand, in release.
#[test]
#[ignore = "a measurement"]
fn numbers() {
    let pool = Pool::new("overlay");
    let fp = pool.image(16);
    let begun = std::time::Instant::now();
    for i in 0..1000 {
        pool.driver.create_from_image(&container(&format!("c{i}")), &fp).unwrap();
    }
    eprintln!("overlay create: {:?}", begun.elapsed() / 1000);
    let begun = std::time::Instant::now();
    for i in 0..1000 {
        pool.driver.delete(&container(&format!("c{i}"))).unwrap();
    }
    eprintln!("overlay delete: {:?}", begun.elapsed() / 1000);
    let pool = Pool::new("dir");
    let fp = fingerprint(17);
    let staged = pool.driver.begin_image(&staging(&fp)).unwrap();
    plain_image(&staged);
    for d in 0..500 {
        let dir = staged.join(format!("rootfs/usr/{d}"));
        std::fs::create_dir(&dir).unwrap();
        for f in 0..100 {
            std::fs::write(dir.join(format!("{f}")), vec![b'x'; (d * 37 + f * 501) % 20_000]).unwrap();
        }
    }
    pool.driver.commit_image(&staging(&fp), &fp).unwrap();
    for round in 0..3 {
        let begun = std::time::Instant::now();
        pool.driver.create_from_image(&container(&format!("c{round}")), &fp).unwrap();
        eprintln!("dir create, 50000 files: {:?}", begun.elapsed());
        let target = pool.data.join(format!("cp{round}"));
        let begun = std::time::Instant::now();
        let mut cp = Command::new("cp");
        cp.args(["-a", "--reflink=auto"]).arg(pool.data.join(format!("images/{fp}"))).arg(&target);
        assert!(cp.status().unwrap().success());
        eprintln!("cp -a: {:?}", begun.elapsed());
    }
    let begun = std::time::Instant::now();
    pool.driver.empty(&pool.driver.delete(&container("c0")).unwrap().unwrap()).unwrap();
    eprintln!("empty: {:?}", begun.elapsed());
}

/// A guest makes subvolumes in its own: a copy has them, read-only ones as such, and they go with the volume.
#[test]
fn subvolumes_of_guests_are_copied_and_removed() {
    use stapes::sys::btrfs;
    const NAME: &str = "subvolumes_of_guests_are_copied_and_removed";
    if !root(NAME) {
        return;
    }
    let Some(pool) = Pool::fitting("btrfs") else { return eprintln!("SKIP {NAME}: no btrfs") };
    let fp = pool.image(30);
    let (one, two) = (container("one"), container("two"));
    pool.driver.create_from_image(&one, &fp).unwrap();
    let rootfs = pool.data.join("containers/one/rootfs");
    let make = |folder: &Path, name: &std::ffi::CStr| {
        btrfs::create(std::fs::File::open(folder).unwrap().as_fd(), name).unwrap();
    };
    make(&rootfs.join("etc"), c"outer");
    make(&rootfs.join("etc/outer"), c"inner");
    std::fs::write(rootfs.join("etc/outer/inner/file"), "nested").unwrap();
    std::os::unix::fs::symlink("/etc", rootfs.join("etc/outer/link")).unwrap();
    let property = |path: &Path, value: &str| {
        let mut set = Command::new("btrfs");
        assert!(set.args(["property", "set", "-f", "-ts"]).arg(path).args(["ro", value]).status().unwrap().success());
    };
    property(&rootfs.join("etc/outer/inner"), "true");
    let before = std::fs::metadata(rootfs.join("etc")).unwrap().mtime();
    pool.driver.copy(&one, &two).unwrap();
    let copy = pool.data.join("containers/two/rootfs/etc");
    assert_eq!(std::fs::read(copy.join("outer/inner/file")).unwrap(), b"nested");
    assert_eq!(std::fs::metadata(&copy).unwrap().mtime(), before);
    let open = |path: &Path| std::fs::File::open(path).unwrap();
    assert!(btrfs::is_subvolume(open(&copy.join("outer/inner")).as_fd()).unwrap());
    let refused = std::fs::write(copy.join("outer/inner/more"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "read-only as its source");
    std::fs::write(copy.join("outer/more"), "writable as its source").unwrap();
    assert!(!rootfs.join("etc/outer/more").exists());
    // A snapshot of a snapshot, and a volume that takes its place.
    pool.driver.begin_restore(&two, &one).unwrap();
    let old = pool.driver.finish_restore(&one).unwrap().unwrap();
    assert!(rootfs.join("etc/outer/more").exists() && rootfs.join("etc/outer/inner/file").exists());
    pool.driver.empty(&old).unwrap();
    for volume in [&one, &two] {
        let trash = pool.driver.delete(volume).unwrap().unwrap();
        pool.driver.empty(&trash).unwrap();
    }
    assert!(pool.driver.trash().unwrap().is_empty());
    let left = Command::new("btrfs").args(["subvolume", "list", "-o"]).arg(&pool.data).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert_eq!(left.lines().filter(|l| !l.contains("/images/")).count(), 0, "{left}");
}
