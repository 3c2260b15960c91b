//! The store as a whole: records through a life, crash points, several commands at once, speed.

use super::journal;
use super::types::{Snapshot, first_project};
use super::*;
use crate::base::names::{ProfileName, SnapshotName};
use crate::error::Kind;
use crate::model::image::{Alias, Image};
use crate::model::instance::{Instance, InstanceType, Volatile};
use crate::model::pool::Pool;
use jiff::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Says loudly that a test did not run.
macro_rules! skip {
    ($($why:tt)*) => {{
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIP {}", format_args!($($why)*));
        }
    }};
}
pub(super) use skip;

pub(super) struct Fixture {
    _dir: Option<tempfile::TempDir>,
    pub layout: Layout,
    pub p: ProjectName,
    pub n: InstanceName,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut f = fixture_in(dir.path());
    f._dir = Some(dir);
    f
}

pub(super) fn fixture_in(dir: &Path) -> Fixture {
    Fixture { _dir: None, layout: Layout::under(dir), p: ProjectName::default(), n: name("c1") }
}

impl Fixture {
    fn open(&self) -> Store {
        Store::open(&self.layout, Access::Write).expect("open")
    }
}

fn name(n: &str) -> InstanceName {
    InstanceName::parse(n).expect("name")
}

fn instance() -> Instance {
    Instance {
        format: 1,
        kind: InstanceType::Container,
        architecture: "x86_64".into(),
        description: String::new(),
        ephemeral: false,
        stateful: false,
        created_at: Timestamp::UNIX_EPOCH,
        profiles: vec!["default".into()],
        config: [("limits.cpu".to_string(), "2".to_string())].into(),
        devices: Default::default(),
        root: Default::default(),
        volatile: None,
    }
}

fn volatile() -> Volatile {
    Volatile { format: 1, config: [("volatile.uuid".to_string(), "u".to_string())].into(), ..Volatile::default() }
}

/// As it is on record once it was made.
fn created(instance: Instance) -> Instance {
    Instance { volatile: Some(volatile()), ..instance }
}

#[test]
fn an_instance_through_its_life() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "create").expect("lock");
    assert!(store.instance(&f.p, &f.n).expect("none").is_none());
    assert_eq!(store.save_instance(&held, &instance()).expect_err("none yet").kind(), Kind::NotFound);
    store.create_instance(&held, &instance(), &volatile()).expect("create");
    assert_eq!(store.create_instance(&held, &instance(), &volatile()).expect_err("twice").kind(), Kind::Exists);
    assert_eq!(store.instance(&f.p, &f.n).expect("read"), Some(created(instance())));
    assert_eq!(store.volatile(&f.p, &f.n).expect("read").config, volatile().config);

    // What was filled in at creation stays until there is something else.
    let changed = created(Instance { description: "d".into(), ..instance() });
    store.save_instance(&held, &Instance { description: "d".into(), ..instance() }).expect("save");
    assert_eq!(store.instance(&f.p, &f.n).expect("read"), Some(changed.clone()));
    store.save_volatile(&held, &volatile()).expect("same");
    assert!(!f.layout.volatile_record(&f.p, &f.n).exists());
    store.save_volatile(&held, &Volatile { format: 1, ..Volatile::default() }).expect("new");
    assert!(store.volatile(&f.p, &f.n).expect("read").config.is_empty());
    store.save_volatile(&held, &volatile()).expect("back");
    assert_eq!(store.volatile(&f.p, &f.n).expect("read").config, volatile().config);
    let at = fs::metadata(f.layout.volatile_record(&f.p, &f.n)).expect("stat").modified().expect("mtime");
    store.save_volatile(&held, &volatile()).expect("same");
    assert_eq!(fs::metadata(f.layout.volatile_record(&f.p, &f.n)).expect("stat").modified().expect("mtime"), at);

    let snap = SnapshotName::parse("snap0").expect("name");
    let record = Snapshot {
        format: 1,
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        scheduled_for: None,
        stateful: false,
        volatile: Default::default(),
        instance: changed,
    };
    store.save_snapshot(&held, &snap, &record).expect("snapshot");
    let other = SnapshotName::parse("snap1").expect("name");
    store.save_snapshot(&held, &other, &record).expect("snapshot");
    assert_eq!(store.rename_snapshot(&held, &snap, &other).expect_err("taken").kind(), Kind::Exists);
    for _ in 0..2 {
        store.forget_snapshot(&f.p, &f.n, &other).expect("delete");
    }
    store.rename_snapshot(&held, &snap, &other).expect("rename");
    assert_eq!(store.snapshot(&f.p, &f.n, &other).expect("read"), Some(record));
    assert_eq!(store.snapshots(&f.p, &f.n).expect("list").len(), 1);

    drop(held);
    let mut both = store
        .lock_instances(
            ["c2", "c1", "c2"].map(|n| lock::InstanceKey { project: f.p.clone(), name: name(n) }).to_vec(),
            "rename",
        )
        .expect("locks");
    assert_eq!(both.iter().map(|h| h.key().name.to_string()).collect::<Vec<_>>(), ["c1", "c2"]);
    both[0].set_verb("move").expect("verb");
    store.rename_instance(&both[0], &both[1]).expect("rename");
    assert!(store.rename_instance(&both[0], &both[1]).is_err());
    assert_eq!(store.instance_names(&f.p).expect("names"), [name("c2")]);
    assert_eq!(store.snapshots(&f.p, &name("c2")).expect("list").len(), 1);
    store.delete_instance(&both[1]).expect("delete");
    store.delete_instance(&both[1]).expect("again");
    assert!(store.instances(&f.p).expect("list").is_empty());
    assert!(!f.layout.instance_dir(&f.p, &name("c2")).exists());
}

#[test]
fn ephemeral_records_live_in_run_and_move_when_they_become_persistent() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "create").expect("lock");
    let ephemeral = Instance { ephemeral: true, ..instance() };
    store.create_instance(&held, &ephemeral, &volatile()).expect("create");
    let there = f.layout.ephemeral_instance_dir(&f.p, &f.n);
    assert!(there.join("instance.toml").exists() && !f.layout.instance_dir(&f.p, &f.n).exists());
    assert_eq!(store.instance(&f.p, &f.n).expect("read"), Some(created(ephemeral.clone())));
    assert_eq!(store.instances(&f.p).expect("list").len(), 1);
    store.save_instance(&held, &Instance { description: "x".into(), ..ephemeral }).expect("stays");
    assert!(there.exists());
    store.save_instance(&held, &instance()).expect("moves");
    assert!(!there.exists() && f.layout.instance_record(&f.p, &f.n).exists());
    assert_eq!(store.volatile(&f.p, &f.n).expect("moved").config, volatile().config);
    // The other way the records stay: they survive what they need not survive.
    store.save_instance(&held, &Instance { ephemeral: true, ..instance() }).expect("stays");
    assert!(f.layout.instance_record(&f.p, &f.n).exists());
    store.delete_instance(&held).expect("delete");
    assert!(!store.instance_exists(&f.p, &f.n).expect("gone"));
}

#[test]
fn one_broken_record_stops_nobody() {
    let f = fixture();
    let store = f.open();
    for n in ["a", "b", "c"] {
        let held = store.lock_instance(&f.p, &name(n), "create").expect("lock");
        store.create_instance(&held, &instance(), &volatile()).expect("create");
    }
    fs::write(f.layout.instance_record(&f.p, &name("b")), "format = 1\nwhat").expect("break");
    fs::create_dir(f.layout.instances_dir(&f.p).join("no-record")).expect("half");
    fs::write(f.layout.instances_dir(&f.p).join(".hidden"), "").expect("hidden");
    let all = store.instances(&f.p).expect("list");
    let seen: Vec<_> = all.iter().map(|(n, r)| (n.as_str(), r.is_ok())).collect();
    assert_eq!(seen, [("a", true), ("b", false), ("c", true)]);
    let e = all.into_iter().find_map(|(_, r)| r.err()).expect("broken");
    assert!(e.to_string().contains("b/instance.toml\" is damaged"), "{e}");
    assert!(store.instance(&f.p, &name("a")).is_ok() && store.instance(&f.p, &name("b")).is_err());
    let held = store.lock_instance(&f.p, &name("b"), "delete").expect("lock");
    store.delete_instance(&held).expect("a broken one can be deleted");
}

#[test]
fn projects_profiles_pools_images_aliases() {
    let f = fixture();
    let store = f.open();
    let p = ProjectName::parse("web").expect("name");
    let q = ProjectName::parse("web2").expect("name");
    let profile = store.profile(&f.p, &ProfileName::parse("default").expect("name")).expect("read").expect("there");
    {
        let held = store.lock_project_exclusive(&p, "create").expect("lock");
        assert!(store.save_profile(&held, &ProfileName::parse("x").expect("name"), &profile).is_err(), "no project");
        store.save_project(&held, &first_project()).expect("save");
        store.save_profile(&held, &ProfileName::parse("x").expect("name"), &profile).expect("save");
        let names: Vec<_> = store.profiles(&p).expect("list").into_iter().map(|(n, _)| n.to_string()).collect();
        assert_eq!(names, ["default", "x"]);
        assert!(store.delete_profile(&held, &ProfileName::parse("x").expect("name")).expect("delete"));
        let other = store.lock_project_exclusive(&q, "rename").expect("lock");
        store.rename_project(&held, &other).expect("rename");
        assert_eq!(store.projects().expect("list").len(), 2);
        store.delete_project(&other).expect("delete");
        assert!(store.project(&q).expect("read").is_none());
    }
    let pool = PoolName::parse("fast").expect("name");
    {
        let held = store.lock_pool_exclusive(&pool, "create").expect("lock");
        let record = Pool { format: 1, driver: "dir".into(), description: String::new(), config: Default::default() };
        store.save_pool(&held, &record).expect("save");
        assert!(f.layout.pool_data(&pool).is_dir());
        assert_eq!(store.pools().expect("list").len(), 1);
        assert_eq!(store.pool(&pool).expect("read"), Some(record));
        store.delete_pool(&held).expect("delete");
        assert!(store.pools().expect("list").is_empty() && !f.layout.pool_dir(&pool).exists());
    }
    let other = ProjectName::parse("p1").expect("name");
    store.save_project(&store.lock_project_exclusive(&other, "create").expect("lock"), &first_project()).expect("save");
    let fp = Fingerprint::parse(&"ab".repeat(32)).expect("fingerprint");
    let held = store.lock_image(&fp, "import").expect("lock");
    store.save_image(&held, &image()).expect("save");
    fs::write(f.layout.image_file(&fp), "x").expect("file");
    let alias = Alias { target: fp.to_string(), kind: InstanceType::Container, description: String::new() };
    store.update_aliases(|a| Ok(a.aliases.insert("deb".into(), alias))).expect("alias");
    assert_eq!(store.aliases().expect("read").aliases["deb"].target, fp.to_string());
    assert!(store.update_aliases::<()>(|_| Err(Error::invalid("No"))).is_err());
    assert_eq!(store.images().expect("list").len(), 1, "the alias record is no image");
    assert_eq!(store.images_by_prefix("aba").expect("prefix"), std::slice::from_ref(&fp));
    assert!(
        store.images_by_prefix("aa").expect("prefix").is_empty()
            && store.images_by_prefix("al").expect("prefix").is_empty()
    );
    assert_eq!(store.use_images_of(other.clone()), ProjectName::default());
    assert!(store.image(&fp).expect("read").is_none() && store.images().expect("list").is_empty());
    assert!(store.image_elsewhere(&fp).expect("read").is_some());
    store.save_image(&held, &image()).expect("save");
    assert_eq!(store.image_owners(&fp).expect("owners"), [ProjectName::default(), other]);
    assert!(store.aliases().expect("read").aliases.is_empty());
    drop(held);
    let held = store.lock_server("set").expect("lock");
    let mut server = store.server().expect("read");
    server.config.insert("core.x".into(), "y".into());
    store.save_server(&held, &server).expect("save");
    assert_eq!(store.server().expect("read"), server);
}

fn image() -> Image {
    Image {
        content: None,
        format: 1,
        kind: InstanceType::Container,
        architecture: "x86_64".into(),
        size: 1,
        filename: "x.tar.xz".into(),
        split: false,
        public: false,
        cached: false,
        auto_update: false,
        created_at: Timestamp::UNIX_EPOCH,
        uploaded_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        last_used_at: None,
        source: None,
        profiles: vec!["default".into()],
        properties: Default::default(),
    }
}

#[test]
fn a_reader_writes_nothing_and_cannot_lock() {
    let f = fixture();
    drop(f.open());
    let reader = Store::open(&f.layout, Access::Read).expect("open");
    assert!(reader.lock_instance(&f.p, &f.n, "start").is_err());
    assert!(reader.lock_allocator(Allocator::Mac).is_err());
    assert!(reader.settle().is_err() && reader.empty_trash().is_err());
    assert_eq!(reader.profiles(&f.p).expect("list").len(), 1);
}

#[test]
fn a_read_only_state_folder_reads_and_gives_writers_one_clear_error() {
    if !rustix::process::geteuid().is_root() {
        crate::store::tests::skip!("a_read_only_state_folder: needs root");
        return;
    }
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "create").expect("lock");
    store.create_instance(&held, &instance(), &volatile()).expect("create");
    drop((held, store));
    // A mount namespace is per thread; this one ends with its mounts.
    let worker = std::thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        if let Err(e) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS) {
            crate::store::tests::skip!("a_read_only_state_folder: {e}");
            return;
        }
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        let state = f.layout.state.as_path();
        mount(Some(state), state, none, MsFlags::MS_BIND, none).expect("bind");
        let ro = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, state, none, ro, none).expect("read-only");
        let reader = Store::open(&f.layout, Access::Read).expect("a reader does not mind");
        assert_eq!(reader.instances(&f.p).expect("list").len(), 1);
        let e = Store::open(&f.layout, Access::Write).expect_err("a writer does");
        assert_eq!(
            (e.kind(), e.to_string()),
            (Kind::Denied, format!("State folder \"{}\" is read-only", state.display()))
        );
        assert!(e.hint_text().is_some());
    });
    worker.join().expect("thread");
}

/// A create as `ops` does it, in short: a volume folder, then the record.
pub(super) fn create(store: &Store, f: &Fixture, fail: bool) -> Result<()> {
    let held = store.lock_instance(&f.p, &f.n, "create")?;
    journal::run(store, "create", &[&held], |j| {
        j.commits_by(&f.layout.instance_record(&f.p, &f.n))?;
        j.undo(Action::ForgetInstance { project: f.p.to_string(), name: f.n.to_string() })?;
        j.undo(Action::RemoveTree { path: volume(f) })?;
        fs::create_dir_all(volume(f).join("rootfs"))?;
        if fail {
            return Err(Error::failed("No luck"));
        }
        store.create_instance(&held, &instance(), &volatile())
    })
}

pub(super) fn delete(store: &Store, f: &Fixture) -> Result<()> {
    let held = store.lock_instance(&f.p, &f.n, "delete")?;
    let actions = vec![
        Action::ForgetInstance { project: f.p.to_string(), name: f.n.to_string() },
        Action::RemoveTree { path: volume(f) },
    ];
    Journal::forward(store, "delete", &[&held], actions)?.finish()
}

fn volume(f: &Fixture) -> PathBuf {
    f.layout.pool_containers(&PoolName::parse("p1").expect("name")).join("default_c1")
}

/// Whole or absent, and no journal left.
pub(super) fn whole_or_absent(store: &Store, f: &Fixture) -> bool {
    let there = store.instance(&f.p, &f.n).expect("read").is_some();
    assert_eq!(there, volume(f).exists(), "record and volume go together");
    assert!(store.operations().expect("ops").is_empty() && store.failed_journals().expect("ops").is_empty());
    there
}

#[test]
fn a_failing_operation_rolls_back_and_a_finished_one_stays() {
    let f = fixture();
    let store = f.open();
    let e = create(&store, &f, true).expect_err("fails");
    assert_eq!((e.to_string().as_str(), e.others().len()), ("No luck", 0));
    assert!(!whole_or_absent(&store, &f));
    create(&store, &f, false).expect("create");
    assert!(whole_or_absent(&store, &f));
    delete(&store, &f).expect("delete");
    assert!(!whole_or_absent(&store, &f));
    assert_eq!(store.empty_trash().expect("trash"), 2);
}

#[test]
fn what_a_killed_command_left_is_settled_by_the_next() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "create").expect("lock");
    let mut j = Journal::begin(&store, "create", &[&held]).expect("begin");
    j.undo(Action::RemoveTree { path: volume(&f) }).expect("note");
    fs::create_dir_all(volume(&f)).expect("step");
    assert_eq!(store.operations().expect("ops")[0].1.as_ref().expect("header").targets, ["instance default/c1"]);
    drop(f.open());
    assert!(volume(&f).exists(), "its owner lives: nobody touches it");
    j.killed();
    let next = f.open();
    assert!(!whole_or_absent(&next, &f));
    let settled = next.take_settled();
    assert_eq!((settled.len(), settled[0].forward, settled[0].error.is_none()), (1, false, true));

    // Past the commit point it goes forward, even if only the record says so.
    let mut j = Journal::begin(&store, "create", &[&held]).expect("begin");
    j.commits_by(&f.layout.instance_record(&f.p, &f.n)).expect("witness");
    j.undo(Action::RemoveTree { path: volume(&f) }).expect("note");
    fs::create_dir_all(volume(&f)).expect("step");
    store.create_instance(&held, &instance(), &volatile()).expect("commit point");
    assert!(
        Journal::begin(&store, "x", &[&held])
            .and_then(|mut x| x.commits_by(&f.layout.instance_record(&f.p, &f.n)))
            .is_err()
    );
    j.killed();
    let next = f.open();
    assert!(whole_or_absent(&next, &f));
    assert!(next.take_settled()[0].forward);

    // A deletion goes on.
    let actions = vec![
        Action::ForgetInstance { project: f.p.to_string(), name: f.n.to_string() },
        Action::RemoveTree { path: volume(&f) },
    ];
    Journal::forward(&store, "delete", &[&held], actions).expect("begin").killed();
    assert!(!whole_or_absent(&f.open(), &f));
}

#[test]
fn a_lock_of_a_killed_holder_is_not_had_before_its_journal_is_settled() {
    let f = fixture();
    // This one opened while the owner lived, so only the dead holder's mark can tell it.
    let (store, waiting) = (f.open(), f.open());
    std::thread::scope(|s| {
        let held = store.lock_instance(&f.p, &f.n, "create").expect("lock");
        let mut j = Journal::begin(&store, "create", &[&held]).expect("begin");
        j.undo(Action::RemoveTree { path: volume(&f) }).expect("note");
        fs::create_dir_all(volume(&f)).expect("step");
        let waiter = s.spawn(|| {
            let held = waiting.lock_instance(&f.p, &f.n, "create").expect("lock");
            assert!(!volume(&f).exists(), "settled before we have it");
            drop(held);
        });
        j.killed();
        held.killed();
        waiter.join().expect("waiter");
    });
    assert_eq!(waiting.take_settled().len(), 1);
    assert!(!whole_or_absent(&f.open(), &f));
}

#[test]
fn what_cannot_be_settled_is_kept_for_the_doctor_and_stops_nobody() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "start").expect("lock");
    let mut j = Journal::begin(&store, "start", &[&held]).expect("begin");
    j.undo(Action::RemoveFile { path: f.layout.images_dir().join("x") }).expect("note");
    j.undo(Action::RemoveLink { name: "veth0".into() }).expect("note");
    fs::write(f.layout.images_dir().join("x"), "").expect("step");
    let e = j.abort(Error::failed("No luck"));
    assert_eq!((e.to_string().as_str(), e.others().len()), ("No luck", 1));
    assert!(!f.layout.images_dir().join("x").exists(), "the other steps were undone");
    fs::write(f.layout.ops_dir().join("0-damaged.journal"), "{}\n").expect("damaged");
    let next = f.open();
    assert_eq!(next.take_settled().len(), 1);
    let failed = next.failed_journals().expect("list");
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[1].1.as_ref().map(|h| h.op.as_str()), Some("start"));
    assert!(f.open().take_settled().is_empty(), "said once");

    #[derive(Debug)]
    struct Good;
    impl Undoer for Good {
        fn perform(&self, _: &Store, action: &Action) -> Result<()> {
            assert_eq!(*action, Action::RemoveLink { name: "veth0".into() });
            Ok(())
        }
    }
    drop(held);
    let doctor = Store::open_with(&f.layout, Access::Write, &Good).expect("open");
    doctor.retry_failed().expect("retry");
    assert_eq!(doctor.failed_journals().expect("list").len(), 1, "the damaged one stays");
}

#[test]
fn an_old_boot_s_update_is_not_put_back() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "update").expect("lock");
    store.create_instance(&held, &instance(), &volatile()).expect("create");
    let path = f.layout.instance_record(&f.p, &f.n);
    let old = fs::read_to_string(&path).expect("read");
    for boot in ["this", "another", "another, but kept"] {
        let mut j = Journal::begin(&store, "update", &[&held]).expect("begin");
        if boot.ends_with("kept") {
            j.keep().expect("keep");
        }
        j.undo(Action::RestoreFile { path: path.clone(), content: old.clone() }).expect("note");
        store.save_instance(&held, &Instance { description: "new".into(), ..instance() }).expect("save");
        let file = f.layout.journal(j.id());
        j.killed();
        if boot != "this" {
            let text = fs::read_to_string(&file).expect("read");
            fs::write(&file, text.replace(crate::host::boot_id::current().expect("id"), "x")).expect("write");
        }
        drop(f.open());
        assert_eq!(fs::read_to_string(&path).expect("read") == old, boot != "another", "{boot}");
    }
}

#[test]
fn what_was_moved_in_a_folder_that_is_no_more_is_settled() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "rename").expect("lock");
    let mut j = Journal::begin(&store, "rename", &[&held]).expect("begin");
    let log = f.layout.instance_log_dir(&f.p, &f.n);
    j.undo(Action::Move { from: log.clone(), to: log.with_file_name("other") }).expect("note");
    let _ = fs::remove_dir_all(&f.layout.log);
    j.killed();
    drop(f.open());
    assert!(f.open().failed_journals().expect("list").is_empty());
}

#[test]
fn maintenance_is_alone_and_cleans() {
    let f = fixture();
    let store = f.open();
    let held = store.lock_instance(&f.p, &f.n, "create").expect("lock");
    store.create_instance(&held, &instance(), &volatile()).expect("create");
    fs::write(f.layout.instance_dir(&f.p, &f.n).join(".volatile.toml.new"), "half").expect("leftover");
    fs::write(f.layout.ops_dir().join(".1-2-3.journal"), "half").expect("leftover");
    drop(held);
    drop(store);
    let alone = Store::open_exclusive(&f.layout, &NoUndoer).expect("alone");
    // The instance's lock and the two files.
    assert_eq!(alone.gc().expect("gc"), 3);
    assert_eq!(alone.gc().expect("gc"), 0);
    assert!(alone.instance(&f.p, &f.n).expect("read").is_some());
    drop(alone);
    let _user = f.open();
}

#[test]
fn many_commands_at_once_keep_the_invariants() {
    let f = fixture();
    drop(f.open());
    std::thread::scope(|s| {
        for t in 0..6 {
            let f = &f;
            s.spawn(move || {
                for i in 0..15 {
                    let store = f.open();
                    // Whoever comes second finds it there or gone: both are fine, a mixture is not.
                    let done = if (t + i) % 2 == 0 { create(&store, f, i % 5 == 0) } else { delete(&store, f) };
                    if let Err(e) = done {
                        assert!(matches!(e.kind(), Kind::Exists | Kind::Failed), "{e:?}");
                    }
                }
            });
        }
    });
    let store = f.open();
    whole_or_absent(&store, &f);
}

/// Runs only when asked: `cargo test --release store::tests::speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
#[allow(clippy::print_stderr)]
fn speed() {
    let f = fixture();
    let store = f.open();
    for i in 0..1000 {
        let n = name(&format!("c{i}"));
        let at = f.layout.instance_dir(&f.p, &n);
        fs::create_dir_all(&at).expect("mkdir");
        fs::write(at.join("instance.toml"), record::render(&instance()).expect("render")).expect("write");
    }
    let per = |what: &str, n: u32, work: &mut dyn FnMut()| {
        let t = Instant::now();
        (0..n).for_each(|_| work());
        eprintln!("{what}: {:?}", t.elapsed() / n);
    };
    per("open for reading", 2000, &mut || drop(Store::open(&f.layout, Access::Read).expect("open")));
    per("open for writing", 2000, &mut || drop(f.open()));
    per("names of 1000", 20, &mut || assert_eq!(store.instance_names(&f.p).expect("names").len(), 1000));
    per("records of 1000", 20, &mut || assert_eq!(store.instances(&f.p).expect("list").len(), 1000));
    let text = record::render(&instance()).expect("render");
    let path = Path::new("x");
    per("parse of one", 1000, &mut || drop(record::parse::<Instance>(text.as_bytes(), path).expect("parse")));
    per("lock and let go", 2000, &mut || drop(store.lock_instance(&f.p, &f.n, "start").expect("lock")));
    per("journal with two steps", 500, &mut || {
        let held = store.lock_instance(&f.p, &f.n, "x").expect("lock");
        let mut j = Journal::begin(&store, "x", &[&held]).expect("begin");
        j.undo(Action::RemoveFile { path: "/x".into() }).expect("undo");
        j.undo(Action::RemoveFile { path: "/x".into() }).expect("undo");
        j.finish().expect("finish");
    });
    per("save an instance (durable)", 20, &mut || {
        let held = store.lock_instance(&f.p, &name("c1"), "x").expect("lock");
        store.save_instance(&held, &instance()).expect("save");
    });
}
