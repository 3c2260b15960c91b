//! Changes of instances and profiles against a state folder of their own; no root, nothing runs.

use super::config::{self, Change};
use super::list::{self, Needs};
use super::{device_config, profile, rename, undo, update};
use crate::base::names::{InstanceName, PoolName, ProfileName, ProjectName};
use crate::error::{Kind, Result};
use crate::model::expand::tests::{instance, map};
use crate::model::instance::Volatile;
use crate::model::keys;
use crate::model::pool::Pool;
use crate::model::view::ProfilePut;
use crate::storage::{self, Volume};
use crate::store::layout::Layout;
use crate::store::lock::InstanceKey;
use crate::store::{Access, Action, Journal, Store};

struct Fixture {
    _dir: tempfile::TempDir,
    layout: Layout,
    store: Store,
    project: ProjectName,
}

fn name(text: &str) -> InstanceName {
    InstanceName::parse(text).expect("name")
}

fn profile_name(text: &str) -> ProfileName {
    ProfileName::parse(text).expect("name")
}

fn pairs(list: &[(&str, &str)]) -> Change {
    Change::Set(list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect())
}

impl Fixture {
    /// A pool `default`, a default profile with a root disk on it, and instances `a` and `b`.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(dir.path());
        let store = undo::open(&layout, Access::Write).expect("open");
        let fixture = Self { _dir: dir, layout, store, project: ProjectName::default() };
        fixture.fill().expect("fixture");
        fixture
    }

    fn fill(&self) -> Result<()> {
        let pool = PoolName::parse("default")?;
        let data = self.layout.pool_data(&pool);
        {
            let project = self.store.lock_project_exclusive(&self.project, "create")?;
            let lock = self.store.lock_pool_exclusive(&pool, "create")?;
            storage::setup(&data)?;
            let record = Pool { format: 1, driver: "dir".into(), description: String::new(), config: map(&[]) };
            self.store.save_pool(&lock, &record)?;
            let mut default = self.store.profile(&self.project, &profile_name("default"))?.expect("made at first use");
            default.devices.insert("root".into(), map(&[("type", "disk"), ("path", "/"), ("pool", "default")]));
            self.store.save_profile(&project, &profile_name("default"), &default)?;
        }
        for who in ["a", "b"] {
            let held = self.store.lock_instance(&self.project, &name(who), "create")?;
            let volume = Volume::container(&self.project, &name(who))?;
            storage::driver("dir", &data)?.create_empty(&volume)?;
            let volatile =
                map(&[("volatile.idmap.base", "0"), ("volatile.uuid", "6be24aad-4b5e-4c51-b15e-565b882bad11")]);
            let volatile = Volatile { format: 1, last_used_at: None, config: volatile };
            self.store.create_instance(&held, &instance(&[("user.x", "1")], &[]), &volatile)?;
        }
        Ok(())
    }

    fn set(&self, who: &str, list: &[(&str, &str)]) -> Result<()> {
        config::keys(&self.store, (&self.project, &name(who)), &pairs(list))
    }

    fn get(&self, who: &str, key: &str) -> String {
        config::get(&self.store, (&self.project, &name(who)), key, true).expect("get")
    }

    fn profiles_of(&self, who: &str) -> Vec<String> {
        self.store.instance(&self.project, &name(who)).expect("read").expect("there").profiles
    }

    fn with_profile(&self, who: &str, profile: &str) -> Result<()> {
        update::update(&self.store, &self.project, &name(who), &mut |edit| {
            edit.put.profiles.push(profile.to_string());
            Ok(())
        })
    }

    fn has_volume(&self, who: &str) -> bool {
        let data = self.layout.pool_data(&PoolName::parse("default").expect("name"));
        let volume = Volume::container(&self.project, &name(who)).expect("volume");
        storage::driver("dir", &data).and_then(|d| d.exists(&volume)).expect("driver")
    }
}

#[test]
fn a_wrong_change_changes_nothing() {
    let f = Fixture::new();
    let record = f.layout.instance_record(&f.project, &name("a"));
    let before = std::fs::read(&record).expect("record");
    for (list, message) in [
        (&[("user.y", "1"), ("nope", "1")][..], "Invalid config: Unknown configuration key: nope"),
        (&[("boot.autostart", "perhaps")], "Invalid config: \"perhaps\" isn't a valid value"),
        (&[("volatile.idmap.base", "")], "Volatile idmap keys can't be deleted by the user"),
    ] {
        assert_eq!(f.set("a", list).expect_err("wrong").to_string(), message);
    }
    let root = device_config::Change::Add { name: "d".into(), kind: "disk".into(), values: vec![] };
    let added = update::update(&f.store, &f.project, &name("a"), &mut |edit| {
        device_config::apply(&mut edit.put.devices, None, &root)
    });
    assert!(added.is_err());
    assert_eq!(std::fs::read(&record).expect("record"), before);
    f.set("a", &[("user.y", "2"), ("user.x", "")]).expect("right");
    assert_eq!((f.get("a", "user.y"), f.get("a", "user.x")), ("2".into(), String::new()));
}

#[test]
fn two_records_change_together_or_not_at_all() {
    let f = Fixture::new();
    let identity = || f.get("a", keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.name);
    f.set("a", &[("cloud-init.user-data", "#cloud-config\n{}")]).expect("seed");
    let first = identity();
    assert!(!first.is_empty(), "a seed gives a new identity");
    f.set("a", &[("user.z", "1")]).expect("other key");
    assert_eq!(identity(), first);
    // A command killed between the two records: its journal puts the first one back.
    let who = InstanceKey { project: f.project.clone(), name: name("a") };
    let loaded = super::load::load(&f.store, &f.project, &name("a")).expect("load");
    let held = f.store.lock::<_, crate::store::lock::Exclusive>(who, "update").expect("lock");
    let mut journal = Journal::begin(&f.store, "update", &[&held]).expect("journal");
    journal.undo(update::restore_volatile(&f.store, &loaded).expect("action")).expect("noted");
    let mut volatile = loaded.volatile.clone();
    keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.set(&mut volatile.config, "6be24aad-4b5e-4c51-b15e-565b882bad11");
    f.store.save_volatile(&held, &volatile).expect("first record");
    drop(journal);
    drop(held);
    assert_eq!(identity(), first);
}

#[test]
fn a_profile_counts_for_all_that_have_it() {
    let f = Fixture::new();
    let p1 = profile_name("p1");
    let put = ProfilePut { config: map(&[("user.p", "1")]), ..ProfilePut::default() };
    profile::create(&f.store, &f.project, &p1, &put).expect("create");
    f.with_profile("a", "p1").expect("assign");
    assert_eq!(f.with_profile("a", "p1").expect_err("twice").to_string(), "Duplicate profile found in request");
    assert_eq!(f.with_profile("a", "p9").expect_err("none").kind(), Kind::NotFound);
    assert_eq!(f.get("a", "user.p"), "1");
    let set = |key: &'static str, value: &'static str| {
        profile::update(&f.store, &f.project, &p1, &mut |put| {
            put.config.insert(key.to_string(), value.to_string());
            Ok(())
        })
    };
    set("user.p", "2").expect("update");
    assert_eq!(f.get("a", "user.p"), "2");
    // What only an instance that has it makes wrong is told with its name, and nothing is changed.
    f.set("a", &[("security.syscalls.allow", "read")]).expect("allowed");
    let e = set("security.syscalls.deny", "keyctl").expect_err("together wrong").to_string();
    assert!(
        e.starts_with("Failed to update profile \"p1\", nothing was changed: Instance \"a\": Invalid expanded"),
        "{e}"
    );
    assert_eq!(profile::show(&f.store, &f.project, &p1).expect("show").put.config.len(), 1);
    assert_eq!(profile::delete(&f.store, &f.project, &p1).expect_err("used").kind(), Kind::Conflict);
    let list = profile::list(&f.store, &f.project).expect("list");
    assert_eq!(list.iter().map(|p| p.used_by.len()).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn renaming_a_profile_can_be_resumed_from_anywhere() {
    let f = Fixture::new();
    let (old, new) = (profile_name("old"), profile_name("new"));
    profile::create(&f.store, &f.project, &old, &ProfilePut::default()).expect("create");
    for who in ["a", "b"] {
        f.with_profile(who, "old").expect("assign");
    }
    // Killed after the copy and one instance.
    {
        let lock = f.store.lock_project_exclusive(&f.project, "rename").expect("lock");
        let record = f.store.profile(&f.project, &old).expect("read").expect("there");
        f.store.save_profile(&lock, &new, &record).expect("copy");
        let held = f.store.lock_instance(&f.project, &name("a"), "rename").expect("lock");
        let mut a = f.store.instance(&f.project, &name("a")).expect("read").expect("there");
        a.profiles = vec!["default".into(), "new".into()];
        f.store.save_instance(&held, &a).expect("save");
        let action = Action::RenameProfile { project: "default".into(), from: "old".into(), to: "new".into() };
        for _ in 0..2 {
            Journal::forward(&f.store, "rename", &[&lock], vec![action.clone()])
                .expect("journal")
                .finish()
                .expect("done");
        }
    }
    assert_eq!(f.profiles_of("a"), ["default", "new"]);
    assert_eq!(f.profiles_of("b"), ["default", "new"]);
    assert!(f.store.profile(&f.project, &old).expect("read").is_none());
    profile::rename(&f.store, &f.project, &new, &old).expect("back");
    assert_eq!(f.profiles_of("b"), ["default", "old"]);
}

#[test]
fn renaming_an_instance_is_all_or_nothing() {
    let f = Fixture::new();
    let rename = |from: &str, to: &str| rename::rename(&f.store, &f.project, &name(from), &name(to));
    assert_eq!(rename("a", "b").expect_err("taken").to_string(), "Name \"b\" already in use");
    assert_eq!(rename("x", "y").expect_err("none").kind(), Kind::NotFound);
    std::fs::create_dir_all(f.layout.instance_log_dir(&f.project, &name("a"))).expect("log");
    rename("a", "c").expect("rename");
    assert!(f.has_volume("c") && !f.has_volume("a"));
    assert!(f.layout.instance_log_dir(&f.project, &name("c")).exists());
    assert_eq!(f.get("c", keys::VOLATILE_APPLY_TEMPLATE.name), "rename");
    // The last step fails: everything goes back.
    std::fs::write(f.layout.instance_log_dir(&f.project, &name("d")), "in the way").expect("file");
    let before = f.get("c", keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.name);
    assert!(rename("c", "d").is_err());
    assert!(f.has_volume("c") && !f.has_volume("d"));
    assert_eq!(f.get("c", keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.name), before);
    assert!(f.store.instance(&f.project, &name("d")).expect("read").is_none());
    assert_eq!(std::fs::read_dir(f.layout.ops_dir()).expect("journals").count(), 0);
}

#[test]
fn one_broken_record_is_one_row() {
    let f = Fixture::new();
    std::fs::write(f.layout.instance_record(&f.project, &name("a")), "nonsense").expect("damage");
    let needs = Needs { volatile: true, expanded: true, snapshots: true, addresses: true, state: true, disk: true };
    let rows = list::list(&f.store, std::slice::from_ref(&f.project), &[], needs).expect("list");
    let shown: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.found.status.as_str(), r.instance.is_some())).collect();
    assert_eq!(shown, [("a", "Error", false), ("b", "Stopped", true)]);
    assert!(rows[1].state.as_ref().expect("state").disk.0.as_ref().expect("disks").contains_key("root"));
    assert!(rows.iter().all(|r| r.object(&f.store, true).is_ok()));
    assert_eq!(f.set("a", &[("user.x", "1")]).expect_err("damaged").kind(), Kind::Failed);
    assert!(f.set("b", &[("user.x", "1")]).is_ok());
}
