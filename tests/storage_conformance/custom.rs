//! Custom volumes: all that lies in one is the user's, whatever it is called.

use super::support::*;
use super::{each, faithful};
use stapes::base::names::{ProjectName, SnapshotName, VolumeName};
use stapes::error::Kind;
use stapes::model::attach::Rootfs;
use stapes::storage::{Volume, VolumeKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

fn custom(name: &str) -> Volume {
    Volume::custom(&ProjectName::default(), &VolumeName::parse(name).unwrap()).unwrap()
}

fn folder(pool: &Pool, volume: &Volume) -> PathBuf {
    match pool.driver.rootfs(volume).unwrap() {
        Rootfs::Dir { path } => path,
        other => panic!("a custom volume has layers: {other:?}"),
    }
}

fn make(pool: &Pool, volume: &Volume) -> PathBuf {
    let staged = pool.driver.begin_volume(volume).unwrap();
    assert_eq!(std::fs::read_dir(&staged).unwrap().count(), 0, "it begins empty");
    std::os::unix::fs::chown(&staged, Some(5), Some(6)).unwrap();
    std::fs::set_permissions(&staged, PermissionsExt::from_mode(0o750)).unwrap();
    assert!(!pool.driver.exists(volume).unwrap());
    pool.driver.commit_volume(volume).unwrap();
    folder(pool, volume)
}

#[test]
fn a_custom_volume_is_the_users_alone() {
    each("a_custom_volume_is_the_users_alone", |pool| {
        let image = pool.image(41);
        let (one, two) = (custom("one"), custom("two"));
        let root = make(pool, &one);
        let stat = std::fs::metadata(&root).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (5, 6, 0o750));
        // Out of reach for others, whatever its own mode.
        assert_eq!(std::fs::metadata(root.parent().unwrap()).unwrap().mode() & 0o077, 0);
        for name in ["rootfs", "upper", "work", "templates"] {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("f"), name).unwrap();
        }
        symlink(format!("../../images/{image}"), root.join("image")).unwrap();
        std::fs::write(root.join("idmap"), "[]").unwrap();
        std::fs::write(root.join("metadata.yaml"), "x").unwrap();
        let expected = faithful::describe(&root);
        assert_eq!(folder(pool, &one), root);
        assert!(pool.driver.image_users(&image).unwrap().is_empty());
        pool.driver.copy(&one, &two).unwrap();
        faithful::same(&expected, &faithful::describe(&folder(pool, &two)));
        assert!(pool.driver.image_users(&image).unwrap().is_empty());
        // A snapshot, and back.
        let snapshot = one.snapshot(&SnapshotName::parse("s").unwrap()).unwrap();
        pool.driver.copy(&one, &snapshot).unwrap();
        assert_eq!(pool.driver.list(VolumeKind::CustomSnapshot).unwrap(), std::slice::from_ref(&snapshot));
        std::fs::remove_dir_all(root.join("work")).unwrap();
        std::fs::write(root.join("idmap"), "changed").unwrap();
        pool.driver.begin_restore(&snapshot, &one).unwrap();
        for _ in 0..2 {
            if let Some(trash) = pool.driver.finish_restore(&one).unwrap() {
                pool.driver.empty(&trash).unwrap();
            }
        }
        faithful::same(&expected, &faithful::describe(&folder(pool, &one)));
        let three = custom("three");
        pool.driver.rename(&one, &three).unwrap();
        pool.driver.rename(&one, &three).unwrap();
        faithful::same(&expected, &faithful::describe(&folder(pool, &three)));
        assert!(pool.driver.owners(&three).unwrap().is_empty());
        assert_eq!(pool.driver.shift(&three, &map()).unwrap_err().kind(), Kind::Unsupported);
        for volume in [&two, &three, &snapshot] {
            let trash = pool.driver.delete(volume).unwrap().expect("it was there");
            pool.driver.empty(&trash).unwrap();
            assert!(!pool.driver.exists(volume).unwrap());
        }
        assert!(pool.driver.trash().unwrap().is_empty());
    });
}

fn map() -> stapes::base::idmap::IdMap {
    stapes::base::idmap::IdMap::simple(1_000_000, 65536).unwrap()
}

#[test]
fn a_custom_volume_may_be_made_empty() {
    each("a_custom_volume_may_be_made_empty", |pool| {
        let volume = custom("v");
        pool.driver.create_empty(&volume).unwrap();
        assert_eq!(std::fs::read_dir(folder(pool, &volume)).unwrap().count(), 0);
        assert_eq!(pool.driver.create_empty(&volume).unwrap_err().kind(), Kind::Exists);
        assert_eq!(pool.driver.list(VolumeKind::Custom).unwrap(), [volume]);
    });
}
