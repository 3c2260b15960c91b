//! A tree with everything a file system can hold, and the comparison of two trees.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// `user::rw-,user:<id>:r--,group::r--,group:<id>:rw-,mask::rw-,other::r--`
fn acl(id: u32) -> Vec<u8> {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, id), (4, 4, u32::MAX), (8, 6, id), (16, 6, u32::MAX), (32, 4, u32::MAX)]
    {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&perm.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}

/// Fills `root`.
pub fn build(root: &Path) {
    let own = |name: &str, uid: u32, mode: u32| {
        let path = root.join(name);
        std::os::unix::fs::lchown(&path, Some(uid), Some(uid + 1)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for name in ["dir", "dir/sub", "sticky", "setgid", "closed", "empty"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    for (name, content) in
        [("plain", "text"), ("suid", "x"), ("caps", "x"), ("acl", "x"), ("closed/in", "secret"), ("dir/none", "")]
    {
        std::fs::write(root.join(name), content).unwrap();
    }
    own("plain", 1000, 0o640);
    own("suid", 0, 0o6755);
    own("sticky", 5, 0o1777);
    own("setgid", 5, 0o2775);
    own("caps", 0, 0o755);
    own("acl", 7, 0o664);
    attribute(&root.join("caps"), "security.capability", &CAPABILITY);
    attribute(&root.join("acl"), "system.posix_acl_access", &acl(1234));
    attribute(&root.join("dir"), "system.posix_acl_default", &acl(1234));
    attribute(&root.join("plain"), "user.note", b"hello\0world");
    attribute(&root.join("plain"), "user.empty", b"");
    attribute(&root.join("dir/sub"), "trusted.secret", &[7; 900]);
    attribute(&root.join("dir/sub"), "user.long", &[8; 1500]);
    std::fs::hard_link(root.join("plain"), root.join("dir/sub/again")).unwrap();
    std::fs::hard_link(root.join("plain"), root.join("third")).unwrap();
    for (name, target) in [("absolute", "/etc/passwd"), ("dangling", "no/where"), ("dir/up", "../..")] {
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        std::os::unix::fs::lchown(root.join(name), Some(42), Some(43)).unwrap();
    }
    attribute(&root.join("dangling"), "trusted.link", b"of a link");
    let at = rustix::fs::open(root, OFlags::PATH, Mode::empty()).unwrap();
    rustix::fs::mknodat(&at, "fifo", FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
    rustix::fs::mknodat(&at, "null", FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 3))
        .unwrap();
    rustix::fs::mknodat(&at, "block", FileType::BlockDevice, Mode::from_raw_mode(0o600), rustix::fs::makedev(7, 99))
        .unwrap();
    rustix::fs::mknodat(&at, "socket", FileType::Socket, Mode::from_raw_mode(0o755), 0).unwrap();
    rustix::fs::linkat(&at, "fifo", &at, "fifo2", AtFlags::empty()).unwrap();
    for name in [&b"new\nline"[..], b"-rf", b" ", b"\xff\xfe", b"caf\xc3\xa9", &[b'n'; 255], b"*", b"\\"] {
        std::fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    sparse(&root.join("sparse"));
    std::fs::write(root.join("large"), vec![b'l'; 3 << 20]).unwrap();
    own("closed", 0, 0);
    for (name, time) in [("plain", 1_000_000_001), ("dir", 86_400), ("dangling", 77), ("fifo", 5)] {
        let time = rustix::fs::Timespec { tv_sec: time, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(&at, name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// 32 MiB, of which three pieces are there.
fn sparse(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(32 << 20).unwrap();
    for at in [0, 8 << 20, 20 << 20] {
        file.write_all_at(&[b's'; 5000], at).unwrap();
    }
}

/// A chain of `depth` folders, a file in each; too deep for any path.
pub fn deep(root: &Path, depth: usize) {
    let mut at = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::mknodat(&at, "f", FileType::RegularFile, Mode::RUSR, 0).unwrap();
    }
    rustix::fs::linkat(&at, "f", &at, "g", AtFlags::empty()).unwrap();
}

/// All that is to be equal about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    kind: String,
    mode: u32,
    pub uid: u32,
    pub gid: u32,
    mtime: Option<(i64, i64)>,
    rdev: u64,
    nlink: u64,
    /// Path of the first name of the same inode.
    first: PathBuf,
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    holes: bool,
}

/// Describes every file of a tree.
pub fn describe(root: &Path) -> BTreeMap<PathBuf, What> {
    let (mut found, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    let mut paths = vec![PathBuf::new()];
    while let Some(rel) = paths.pop() {
        let path = root.join(&rel);
        let stat = std::fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            let mut inside: Vec<_> =
                std::fs::read_dir(&path).unwrap().map(|e| rel.join(e.unwrap().file_name())).collect();
            inside.sort();
            paths.extend(inside);
        }
        inodes.entry((stat.dev(), stat.ino())).or_insert_with(Vec::new).push(rel.clone());
        let content = if stat.is_file() {
            std::fs::read(&path).unwrap()
        } else if stat.is_symlink() {
            std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let special = stat.file_type().is_char_device() || stat.file_type().is_block_device();
        let what = What {
            kind: format!("{:?}", stat.file_type()),
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            mtime: Some((stat.mtime(), stat.mtime_nsec())),
            rdev: if special { stat.rdev() } else { 0 },
            // A folder's count is the file system's business.
            nlink: if stat.is_dir() { 0 } else { stat.nlink() },
            first: rel.clone(),
            holes: stat.is_file() && stat.blocks() * 512 < stat.size() / 2,
            content,
            attributes: attributes(&path),
        };
        found.insert(rel, what);
    }
    for names in inodes.values() {
        let first = names.iter().min().unwrap();
        for name in names {
            found.get_mut(name).unwrap().first.clone_from(first);
        }
    }
    found
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65_536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..len].split(|b| *b == 0).filter(|n| !n.is_empty());
    let read = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(path, CString::new(name).unwrap(), &mut value[..]).unwrap();
        value.truncate(len);
        (name.to_vec(), value)
    };
    names.map(read).collect()
}

/// Panics with the first difference.
pub fn same(one: &BTreeMap<PathBuf, What>, other: &BTreeMap<PathBuf, What>) {
    let names = |t: &BTreeMap<PathBuf, What>| t.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(one), names(other));
    for (name, what) in one {
        let mut seen = other[name].clone();
        if what != &seen {
            // Bytes would fill the screen.
            let equal = seen.content == what.content;
            let mut what = what.clone();
            (what.content, seen.content) = (Vec::new(), Vec::new());
            assert!(equal, "{}: content differs", name.display());
            assert_eq!(what, seen, "{}", name.display());
        }
    }
}

/// Panics unless `after` is `before` with `base` added to all ids.
pub fn shifted(before: &BTreeMap<PathBuf, What>, after: &BTreeMap<PathBuf, What>, base: u32) {
    let mut wanted = before.clone();
    for what in wanted.values_mut() {
        what.uid += base;
        what.gid += base;
        for (name, value) in &mut what.attributes {
            match &name[..] {
                b"security.capability" => {
                    value[3] = 3;
                    value.extend_from_slice(&base.to_le_bytes());
                }
                b"system.posix_acl_access" | b"system.posix_acl_default" => *value = acl(1234 + base),
                _ => {}
            }
        }
    }
    same(&wanted, after);
}
