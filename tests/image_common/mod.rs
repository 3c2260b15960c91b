//! Builds hostile archives and imports them, for the image tests.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test program uses a part; its files are no records")]

use sha2::{Digest, Sha256};
use stapes::error::Result;
use stapes::image::compress::Algorithm;
use stapes::image::import::{self, Dest, Imported, Input, Source};
use stapes::image::unpack::Owners;
use stapes::image::{Fingerprint, Limits};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub const METADATA: &[u8] = b"architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Test\n";

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An archive in the making.
#[derive(Default, Clone, Debug)]
pub struct Ar {
    bytes: Vec<u8>,
    mode: Option<u32>,
}

impl Ar {
    fn raw(mut self, kind: u8, name: &str, link: &str, data: &[u8], device: (u32, u32)) -> Self {
        let mode = self.mode.take().unwrap_or(0o644);
        let long = [("path", name), ("linkpath", link)];
        let long: Vec<(&str, &str)> = long.into_iter().filter(|(_, text)| text.len() > 100).collect();
        if !long.is_empty() {
            self = self.pax(&long);
        }
        let mut h = tar::Header::new_ustar();
        let n = name.len().min(100);
        h.as_old_mut().name[..n].copy_from_slice(&name.as_bytes()[..n]);
        let n = link.len().min(100);
        h.as_old_mut().linkname[..n].copy_from_slice(&link.as_bytes()[..n]);
        h.as_old_mut().linkflag[0] = kind;
        h.set_mode(mode);
        h.set_uid(1000);
        h.set_gid(1000);
        h.set_mtime(1_000_000);
        h.set_size(data.len() as u64);
        h.set_device_major(device.0).expect("major");
        h.set_device_minor(device.1).expect("minor");
        h.set_cksum();
        self.bytes.extend_from_slice(h.as_bytes());
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(b'0', name, "", data, (0, 0))
    }

    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.mode(mode).raw(b'5', name, "", b"", (0, 0))
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.linked(b'2', name, target)
    }

    pub fn symlink_mode(self, name: &str, target: &str, mode: u32) -> Self {
        self.mode(mode).linked(b'2', name, target)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.linked(b'1', name, target)
    }

    fn linked(self, kind: u8, name: &str, target: &str) -> Self {
        self.raw(kind, name, target, b"", (0, 0))
    }

    pub fn node(self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        self.raw(kind, name, "", b"", (major, minor))
    }

    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        let records: Vec<(&str, &[u8])> = records.iter().map(|(k, v)| (*k, v.as_bytes())).collect();
        self.pax_bytes(&records)
    }

    pub fn pax_bytes(mut self, records: &[(&str, &[u8])]) -> Self {
        let mode = self.mode.take();
        let mut data = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut len = body + 1;
            while len != body + len.to_string().len() {
                len = body + len.to_string().len();
            }
            data.extend_from_slice(format!("{len} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let mut next = self.raw(b'x', "pax", "", &data, (0, 0));
        next.mode = mode;
        next
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    w.write_all(data).expect("gzip");
    w.finish().expect("gzip")
}

pub fn xz(data: &[u8]) -> Vec<u8> {
    let mut w = liblzma::write::XzEncoder::new(Vec::new(), 1);
    w.write_all(data).expect("xz");
    w.finish().expect("xz")
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    let mut w = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("zstd");
    w.include_checksum(true).expect("zstd");
    w.write_all(data).expect("zstd");
    w.finish().expect("zstd")
}

/// One import in a temporary place.
pub struct Image {
    dir: tempfile::TempDir,
    pub limits: Limits,
}

impl Image {
    pub fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
        std::fs::create_dir(dir.path().join("staging")).expect("mkdir");
        std::fs::write(dir.path().join("canary"), "host").expect("write");
        Self { dir, limits: Limits::default() }
    }

    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub fn staging(&self) -> PathBuf {
        self.dir.path().join("staging")
    }

    pub fn import(&self, source: Source<'_>, expect: Option<&Fingerprint>) -> Result<Imported> {
        let (blob, root, staging) = (self.dir.path().join("blob"), self.dir.path().join("blob.rootfs"), self.staging());
        let dest = Dest { blob: &blob, blob_rootfs: &root, staging: &staging };
        let options = import::Options {
            expect,
            limits: &self.limits,
            owners: if is_root() { Owners::Keep } else { Owners::Caller },
            algorithm: Algorithm::Zstd,
        };
        import::import(source, dest, options, &mut |_| Ok(()))
    }

    pub fn unified(&self, ar: Ar) -> Result<Imported> {
        self.unified_bytes(ar.finish())
    }

    pub fn unified_bytes(&self, bytes: Vec<u8>) -> Result<Imported> {
        self.import(Source::Unified(input(bytes)), None)
    }

    pub fn expecting(&self, bytes: Vec<u8>, expect: &Fingerprint) -> Result<Imported> {
        self.import(Source::Unified(input(bytes)), Some(expect))
    }

    /// Nothing was written beside the places it was given.
    pub fn assert_contained(&self) {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .expect("list")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.retain(|n| !n.starts_with("blob"));
        assert_eq!(names, ["canary", "staging"]);
        assert_eq!(std::fs::read(self.dir.path().join("canary")).expect("canary"), b"host");
    }
}

pub fn input(bytes: Vec<u8>) -> Input<'static> {
    Input { name: "test.tar".into(), size: Some(bytes.len() as u64), reader: Box::new(std::io::Cursor::new(bytes)) }
}

pub fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}

/// An empty qcow2 disk of 16 MiB in clusters of 4 KiB: header, refcount table, its block, L1 table.
pub fn qcow2() -> Vec<u8> {
    let mut disk = vec![0; 4 * 4096];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    for (at, value) in [(4, 3u32), (20, 12), (36, 8), (56, 1), (96, 4), (100, 112)] {
        put(at, &value.to_be_bytes());
    }
    for (at, value) in [(24, 16u64 << 20), (40, 3 * 4096), (48, 4096), (4096, 2 * 4096)] {
        put(at, &value.to_be_bytes());
    }
    (0..4).for_each(|cluster| put(2 * 4096 + cluster * 2, &[0, 1]));
    disk
}

/// Everything about a tree that an archive keeps.
pub fn describe(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, inodes: &mut BTreeMap<u64, String>, all: &mut BTreeMap<String, String>) {
        let mut names: Vec<_> = std::fs::read_dir(dir).expect("list").map(|e| e.expect("entry").path()).collect();
        names.sort();
        for path in names {
            let name = path.strip_prefix(root).expect("prefix").to_string_lossy().into_owned();
            let m = std::fs::symlink_metadata(&path).expect("stat");
            let mut text = format!("{:o} {}:{} {} ", m.mode(), m.uid(), m.gid(), m.mtime());
            if m.is_file() {
                let first = inodes.entry(m.ino()).or_insert_with(|| name.clone()).clone();
                let file = std::fs::File::open(&path).expect("open");
                let xattrs = stapes::sys::xattr::list(std::os::fd::AsFd::as_fd(&file)).expect("xattr");
                text += &format!("{} {} {first} {xattrs:?}", m.len(), hex(&std::fs::read(&path).expect("read")));
            } else if m.is_symlink() {
                text += &std::fs::read_link(&path).expect("link").to_string_lossy();
            } else {
                text += &m.rdev().to_string();
            }
            all.insert(name, text);
            if m.is_dir() {
                walk(root, &path, inodes, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut BTreeMap::new(), &mut all);
    all
}
