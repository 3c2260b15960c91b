//! What only datasets do: owners shifted in a clone, sizes, and who goes before whom.

use super::faithful;
use super::support::*;
use stapes::base::idmap::IdMap;
use stapes::base::names::SnapshotName;
use stapes::storage::ImageFate;

fn pool(test: &str) -> Option<Pool> {
    let found = root(test).then(|| Pool::fitting("zfs")).flatten();
    if found.is_none() {
        eprintln!("SKIP {test}: no ZFS (apt-get install zfsutils-linux zfs-dkms)");
    }
    found
}

#[test]
fn zfs_owners_are_shifted_in_a_clone() {
    let Some(pool) = pool("zfs_owners_are_shifted_in_a_clone") else { return };
    let d = &pool.driver;
    let fp = fingerprint(50);
    let staged = d.begin_image(&staging(&fp)).unwrap();
    plain_image(&staged);
    faithful::build(&staged.join("rootfs"));
    d.commit_image(&staging(&fp), &fp).unwrap();
    let (volume, other) = (container("c1"), container("c2"));
    d.create_from_image(&volume, &fp).unwrap();
    d.set_size(&volume, Some(96 << 20)).unwrap();
    d.rootfs(&volume).unwrap();
    let rootfs = pool.data.join("containers/c1/rootfs");
    let before = faithful::describe(&rootfs);
    for base in [1_000_000, 3_000_000] {
        let map = IdMap::simple(base, 65_536).unwrap();
        d.empty(&d.shift(&volume, &map).unwrap().expect("the old tree")).unwrap();
        assert!(d.shift(&volume, &map).unwrap().is_none() && d.trash().unwrap().is_empty());
        faithful::shifted(&before, &faithful::describe(&rootfs), base);
        assert_eq!(d.owners(&volume).unwrap(), map);
        assert_eq!(d.space(&volume).unwrap().map(|space| space.total), Some(96 << 20), "the size goes along");
    }
    // A copy has the map of what it was made from.
    d.copy(&volume, &other).unwrap();
    assert_eq!(d.owners(&other).unwrap(), d.owners(&volume).unwrap());
    d.empty(&d.shift(&volume, &IdMap::default()).unwrap().unwrap()).unwrap();
    // What has been replaced is mounted when it is asked for again.
    d.rootfs(&volume).unwrap();
    faithful::same(&before, &faithful::describe(&rootfs));
}

#[test]
fn zfs_what_others_are_made_from_may_go_first() {
    let Some(pool) = pool("zfs_what_others_are_made_from_may_go_first") else { return };
    let d = &pool.driver;
    let fp = pool.image(51);
    let (one, two) = (container("one"), container("two"));
    let snapshots = ["a", "b"].map(|name| one.snapshot(&SnapshotName::parse(name).unwrap()).unwrap());
    d.create_from_image(&one, &fp).unwrap();
    d.rootfs(&one).unwrap();
    let file = pool.data.join("containers/one/rootfs/etc/hostname");
    for (snapshot, text) in snapshots.iter().zip(["first", "second"]) {
        std::fs::write(&file, text).unwrap();
        d.copy(&one, snapshot).unwrap();
    }
    d.copy(&snapshots[1], &two).unwrap();
    // An image that is gone for all but those that were made from it.
    let ImageFate::Gone(Some(trash)) = d.delete_image(&fp).unwrap() else { panic!("it was there") };
    d.empty(&trash).unwrap();
    assert!(d.trash().unwrap().is_empty(), "it does not wait for us");
    let again = pool.image(51);
    assert!(d.has_image(&again).unwrap());
    // To the older one: the later one stays.
    d.begin_restore(&snapshots[0], &one).unwrap();
    d.empty(&d.finish_restore(&one).unwrap().unwrap()).unwrap();
    d.rootfs(&one).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"first");
    for gone in [&one, &snapshots[1], &snapshots[0]] {
        d.empty(&d.delete(gone).unwrap().unwrap()).unwrap();
        assert!(d.trash().unwrap().is_empty());
    }
    d.rootfs(&two).unwrap();
    assert_eq!(std::fs::read(pool.data.join("containers/two/rootfs/etc/hostname")).unwrap(), b"second");
    d.empty(&d.delete(&two).unwrap().unwrap()).unwrap();
    let left = std::process::Command::new("zfs").args(["list", "-H", "-o", "name"]).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    // The image that was unpacked again, alone.
    assert_eq!(left.lines().filter(|name| name.matches('/').count() > 1).count(), 1, "{left}");
}
