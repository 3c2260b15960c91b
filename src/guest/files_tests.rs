use super::*;
use crate::base::idmap::IdMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

struct Place {
    dir: tempfile::TempDir,
    fd: std::os::fd::OwnedFd,
    ids: IdMap,
}

/// Owner of what the tests make: an ordinary user cannot give files away.
fn us() -> Attributes {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Attributes { uid: Some(uid), gid: Some(gid), mode: None }
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("root")).expect("mkdir");
        std::fs::write(dir.path().join("canary"), "host").expect("write");
        std::fs::set_permissions(dir.path().join("canary"), PermissionsExt::from_mode(0o604)).expect("chmod");
        let fd = path::open_root(&dir.path().join("root")).expect("open");
        Self { dir, fd, ids: IdMap::default() }
    }

    fn root(&self) -> Root<'_> {
        Root { fd: self.fd.as_fd(), ids: &self.ids }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn write(&self, name: &str, content: &str, attributes: &Attributes) -> Result<()> {
        push(&self.root(), Path::new(name), Content::File(&mut content.as_bytes()), attributes, false)
    }

    fn read(&self, name: &str) -> Result<String> {
        let Found::File(file) = pull(&self.root(), Path::new(name), true)?.found else {
            return Err(Error::invalid("Not a file"));
        };
        Ok(std::io::read_to_string(file)?)
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    fn untouched(&self) {
        assert_eq!(std::fs::read(self.canary()).expect("read"), b"host");
        assert_eq!(std::fs::metadata(self.canary()).expect("stat").mode() & 0o7777, 0o604);
    }
}

#[test]
fn targets() {
    let name = Some(OsStr::new("file"));
    assert_eq!(target("etc/hosts", name).expect("file"), Path::new("/etc/hosts"));
    assert_eq!(target("/etc/", name).expect("folder"), Path::new("/etc/file"));
    assert_eq!(target("", name).expect("root"), Path::new("/file"));
    assert!(target("/etc/", None).is_err());
}

#[test]
fn push_and_pull() {
    let place = Place::new();
    let given = Attributes { mode: Some(0o4711), ..us() };
    place.write("/a", "hello", &given).expect("push");
    let pulled = pull(&place.root(), Path::new("a"), true).expect("pull");
    assert_eq!((pulled.owner.mode, pulled.size), (0o4711, 5));
    assert_eq!(place.read("/a").expect("read"), "hello");
    let before = std::fs::metadata(place.path("a")).expect("stat").ino();
    // Truncated in place; owner and mode stay unless given.
    std::fs::set_permissions(place.path("a"), PermissionsExt::from_mode(0o600)).expect("chmod");
    place.write("/a", "hi", &Attributes::default()).expect("push");
    assert_eq!(place.read("/a").expect("read"), "hi");
    let after = std::fs::metadata(place.path("a")).expect("stat");
    assert_eq!((after.ino(), after.mode() & 0o7777), (before, 0o600));
    place.write("/a", "hi", &Attributes { mode: Some(0o640), ..Attributes::default() }).expect("push");
    assert_eq!(std::fs::metadata(place.path("a")).expect("stat").mode() & 0o7777, 0o640);
    assert_eq!(place.write("/no/parent", "x", &us()).expect_err("no parent").kind(), ErrorKind::NotFound);
    assert_eq!(place.read("/none").expect_err("none").kind(), ErrorKind::NotFound);
    assert!(place.write("/a/", "x", &us()).is_err());
}

#[test]
fn folders_and_links() {
    let place = Place::new();
    let root = place.root();
    push(&root, Path::new("/d"), Content::Directory, &Attributes { mode: Some(0o700), ..us() }, false).expect("mkdir");
    push(&root, Path::new("/d"), Content::Directory, &us(), false).expect("again");
    push(&root, Path::new("/"), Content::Directory, &us(), false).expect("the root");
    assert_eq!(std::fs::metadata(place.path("d")).expect("stat").mode() & 0o7777, 0o700);
    assert!(place.write("/d", "x", &us()).is_err(), "a folder is no file");
    for text in ["one", "/d/two"] {
        push(&root, Path::new("/d/link"), Content::Symlink(OsStr::new(text)), &us(), false).expect("symlink");
        let Found::Symlink(found) = pull(&root, Path::new("/d/link"), false).expect("pull").found else {
            panic!("not a link")
        };
        assert_eq!(found, text);
    }
    // Written through a link that leads nowhere yet, as the instance would.
    place.write("/d/link", "through", &us()).expect("push");
    assert_eq!(std::fs::read(place.path("d/two")).expect("read"), b"through");
    let Found::Directory(names) = pull(&root, Path::new("/d"), true).expect("pull").found else { panic!("no folder") };
    assert_eq!(names, ["link", "two"]);
    let link = push(&root, Path::new("/d/two"), Content::Symlink(OsStr::new("x")), &us(), false);
    assert_eq!(link.expect_err("a file is there").kind(), ErrorKind::Exists);
    assert!(delete(&root, Path::new("/d"), false).is_err());
    delete(&root, Path::new("/d/link"), false).expect("delete");
    delete(&root, Path::new("/d"), true).expect("delete");
    assert_eq!(delete(&root, Path::new("/d"), true).expect_err("gone").kind(), ErrorKind::NotFound);
    assert!(delete(&root, Path::new("/"), true).is_err());
}

#[test]
fn nothing_but_files_is_opened() {
    let place = Place::new();
    let fifo = place.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("fifo");
    // Either would hang for ever if it were opened.
    assert!(place.read("/fifo").is_err());
    assert!(place.write("/fifo", "x", &us()).is_err());
    for (from, to) in [("/l1", "l2"), ("/l2", "l1")] {
        push(&place.root(), Path::new(from), Content::Symlink(OsStr::new(to)), &us(), false).expect("symlink");
    }
    assert!(place.write("/l1", "x", &us()).is_err());
}

/// Ids as the caller's map has them; the way there needs root and is in `tests/storage_conformance.rs`.
#[test]
fn ids_outside_the_map() {
    let mut place = Place::new();
    place.ids = IdMap::simple(1_000_000, 65_536).expect("map");
    let wrong = Attributes { uid: Some(70_000), ..Attributes::default() };
    assert_eq!(place.write("/a", "x", &wrong).expect_err("not mapped").kind(), ErrorKind::Invalid);
    assert!(!place.path("a").exists());
    std::fs::write(place.path("b"), "x").expect("write");
    let pulled = pull(&place.root(), Path::new("b"), true).expect("pull");
    assert_eq!((pulled.owner.uid, pulled.owner.gid), (super::super::NOBODY, super::super::NOBODY));
    // With what is nobody's in there, only what everybody may.
    std::fs::set_permissions(place.path("b"), PermissionsExt::from_mode(0o600)).expect("chmod");
    let none = Attributes::default();
    for refused in [
        pull(&place.root(), Path::new("b"), true).map(drop),
        place.write("/b", "y", &none),
        place.write("/new", "y", &none),
        delete(&place.root(), Path::new("/b"), true),
        push(&place.root(), Path::new("/d"), Content::Directory, &none, true),
        push(&place.root(), Path::new("/l"), Content::Symlink(OsStr::new("x")), &none, false),
    ] {
        assert_eq!(refused.expect_err("not its own").kind(), ErrorKind::Denied);
    }
    assert_eq!(std::fs::read(place.path("b")).expect("read"), b"x");
    std::fs::set_permissions(place.path("b"), PermissionsExt::from_mode(0o606)).expect("chmod");
    let mode = Attributes { mode: Some(0o777), ..none };
    assert_eq!(place.write("/b", "y", &mode).expect_err("a mode").kind(), ErrorKind::Denied);
    place.write("/b", "y", &none).expect("everybody's");
    assert_eq!(place.read("/b").expect("read"), "y");
    std::fs::set_permissions(place.dir.path().join("root"), PermissionsExt::from_mode(0o1777)).expect("chmod");
    assert_eq!(delete(&place.root(), Path::new("/b"), true).expect_err("sticky").kind(), ErrorKind::Denied);
    std::fs::set_permissions(place.dir.path().join("root"), PermissionsExt::from_mode(0o777)).expect("chmod");
    delete(&place.root(), Path::new("/b"), true).expect("everybody's folder");
}

/// A guest can nest folders deeper than we may have descriptors open.
#[test]
fn deep_folders_are_deleted() {
    let place = Place::new();
    let mut at = path::open_dir(place.fd.as_fd(), Path::new("."), Links::Refuse).expect("open");
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).expect("mkdir");
        at = path::open_dir(at.as_fd(), Path::new("d"), Links::Refuse).expect("open");
    }
    delete(&place.root(), Path::new("/d"), true).expect("delete");
    assert!(!place.path("d").exists());
}

/// Rows CVE-2018-15664, CVE-2019-10152, CVE-2021-41089: a component becomes a link to the host while files are copied.
#[test]
fn cve_2018_15664_racer_never_reaches_the_host() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = Place::new();
    let host = place.dir.path().to_str().expect("UTF-8").to_string();
    std::fs::create_dir(place.path("d")).expect("mkdir");
    std::fs::write(place.path("d/canary"), "guest").expect("write");
    let links =
        [host.clone(), "..".to_string(), "../../../../../..".to_string() + &host, format!("/proc/self/root{host}")];
    for (i, text) in links.iter().enumerate() {
        std::os::unix::fs::symlink(text, place.path(&format!("l{i}"))).expect("symlink");
    }
    let stop = AtomicBool::new(false);
    let (mut reads, mut writes) = (0u32, 0u32);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let mut swaps = 0usize;
            while !stop.load(Ordering::Relaxed) {
                let link = place.path(&format!("l{}", swaps % links.len()));
                for _ in 0..2 {
                    rustix::fs::renameat_with(rustix::fs::CWD, place.path("d"), rustix::fs::CWD, &link, flags)
                        .expect("exchange");
                }
                swaps += 1;
            }
            swaps
        });
        let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while std::time::Instant::now() < end {
            for _ in 0..50 {
                if let Ok(text) = place.read("/d/canary") {
                    assert_ne!(text, "host");
                    reads += 1;
                }
                let given = Attributes { mode: Some(0o666), ..us() };
                writes += u32::from(place.write("/d/canary", "guest", &given).is_ok());
                let _ = push(&place.root(), Path::new("/d/new/x"), Content::Directory, &us(), true);
                let _ = delete(&place.root(), Path::new("/d/new"), true);
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(swapper.join().expect("swapper") > 100);
    });
    assert!(reads > 10 && writes > 10, "{reads} reads, {writes} writes got through");
    place.untouched();
    assert_eq!(std::fs::read_dir(place.dir.path()).expect("read").count(), 2, "nothing new beside the root");
}
