use super::*;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, symlink};

/// What takes a file's place after the folder was read is copied as what it is, and never opened.
#[test]
fn nothing_but_files_is_opened() {
    let dir = tempfile::tempdir().expect("dir");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for made in [&from, &to, &from.join("folder")] {
        std::fs::create_dir(made).expect("mkdir");
    }
    std::fs::write(from.join("file"), "data").expect("write");
    std::fs::set_permissions(from.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    symlink("file", from.join("link")).expect("link");
    let socket = std::os::unix::net::UnixListener::bind(from.join("socket")).expect("socket");
    let [source, target] = [&from, &to].map(|path| OwnedFd::from(File::open(path).expect("open")));
    let make = |name, kind, device| rustix::fs::mknodat(&source, name, kind, Mode::RUSR, device);
    make("fifo", FileType::Fifo, 0).expect("fifo");
    // Not for everybody.
    let device = make("device", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).is_ok();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK).expect("inotify");
    watch.add_watch(&from, AddWatchFlags::IN_OPEN).expect("watch");
    let ids = Ids::none();
    let root = target.try_clone().expect("clone");
    let shared = Shared { ids: &ids, root: root.as_fd(), links: Mutex::default(), desk: Desk::new() };
    let folder = Folder { from: source, to: target, path: Vec::new() };
    let mut copy = Copy::new(&shared, folder, None).expect("copy");
    for name in [c"fifo", c"device", c"link", c"socket", c"folder", c"gone", c"file"] {
        copy.regular(name).expect("copied");
    }
    drop(socket);
    let opened: Vec<_> = watch.read_events().expect("events").into_iter().filter_map(|event| event.name).collect();
    assert_eq!(opened, ["file"]);
    let kind = |name: &str| std::fs::symlink_metadata(to.join(name)).map(|m| m.file_type());
    assert!(kind("fifo").expect("there").is_fifo() && kind("socket").expect("there").is_socket());
    assert!(kind("link").expect("there").is_symlink() && kind("folder").is_err() && kind("gone").is_err());
    assert_eq!(kind("device").is_ok_and(|kind| kind.is_char_device()), device);
    assert_eq!(std::fs::read(to.join("file")).expect("read"), b"data");
    assert_eq!(copy.stats.entries, 4 + u64::from(device));
}

/// Files with a name in each of many folders that several copy at once have them all in the copy.
#[test]
fn links_between_folders_stay() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("dir");
    let (from, folders, files) = (dir.path().join("from"), 40, 12);
    for folder in 0..folders {
        let path = from.join(format!("{folder}/below"));
        std::fs::create_dir_all(&path).expect("mkdir");
        for file in 0..files {
            let first = from.join(format!("0/below/{file}"));
            match folder {
                0 => std::fs::write(first, file.to_string()).expect("write"),
                _ => std::fs::hard_link(first, path.join(file.to_string())).expect("link"),
            }
        }
        symlink("12", path.join("symlink")).expect("link");
    }
    for round in 0..10 {
        let to = dir.path().join(round.to_string());
        std::fs::create_dir(&to).expect("mkdir");
        let [source, target] = [&from, &to].map(|path| OwnedFd::from(File::open(path).expect("open")));
        let stats = copy_tree(source.as_fd(), target.as_fd(), &Ids::none(), &[]).expect("copied");
        assert_eq!(stats.entries, folders * (files + 3));
        for folder in 0..folders {
            let path = to.join(format!("{folder}/below"));
            assert_eq!(std::fs::read_link(path.join("symlink")).expect("link").as_os_str(), "12");
            for file in 0..files {
                let (path, first) = (path.join(file.to_string()), to.join(format!("0/below/{file}")));
                let [copied, first] = [&path, &first].map(|path| std::fs::metadata(path).expect("there"));
                assert_eq!((copied.ino(), copied.nlink()), (first.ino(), folders));
                assert_eq!(std::fs::read(path).expect("read"), file.to_string().as_bytes());
            }
        }
    }
}

/// A list that xfs once showed under a name of its own grants nothing on the next xfs.
#[test]
fn names_of_xfs_for_access_lists_stay_behind() {
    let dir = tempfile::tempdir().expect("dir");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, "").expect("write");
    std::fs::write(&to, "").expect("write");
    let [source, target] = [&from, &to].map(|path| OwnedFd::from(File::open(path).expect("open")));
    let set = |name| crate::sys::xattr::set(source.as_fd(), name, b"value");
    // Not for everybody.
    if set(b"trusted.SGI_ACL_FILE").and_then(|()| set(b"trusted.SGI_ACL_DEFAULT")).is_err() {
        return;
    }
    set(b"trusted.other").expect("set");
    let at = |fd| super::super::meta::At::Fd(fd);
    super::super::meta::copy_attributes(at(source.as_fd()), at(target.as_fd()), &Ids::none()).expect("copied");
    let found = crate::sys::xattr::list(target.as_fd()).expect("list");
    let names: Vec<_> = found.into_iter().map(|(name, _)| name).filter(|name| name.starts_with(b"trusted.")).collect();
    assert_eq!(names, [b"trusted.other".to_vec()]);
}
