//! OCI images made by hand: layers entry by entry, layouts of them, and the files of a registry that any web server can serve.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: its files are no records")]

use sha2::{Digest, Sha256, Sha512};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What an entry of a layer is.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    Dir,
    File(&'a [u8]),
    Link(&'a str),
    Hard(&'a str),
    Pipe,
}

/// An entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub path: &'a str,
    pub what: What<'a>,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: &'a str,
    pub xattrs: Vec<(&'a str, &'a [u8])>,
}

/// A file (its name), or with a `/` at the end a folder.
pub fn entry(path: &str) -> Entry<'_> {
    let dir = path.ends_with('/');
    Entry {
        path,
        what: if dir { What::Dir } else { What::File(path.as_bytes()) },
        mode: if dir { 0o755 } else { 0o644 },
        owner: (0, 0),
        mtime: "1600000000.25",
        xattrs: Vec::new(),
    }
}

impl<'a> Entry<'a> {
    pub fn what(mut self, what: What<'a>) -> Self {
        self.what = what;
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub fn mtime(mut self, mtime: &'a str) -> Self {
        self.mtime = mtime;
        self
    }

    pub fn xattr(mut self, name: &'a str, value: &'a [u8]) -> Self {
        self.xattrs.push((name, value));
        self
    }
}

/// A layer, uncompressed.
pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for e in entries {
        let names: Vec<_> = e.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
        let pax = names.iter().map(|(name, value)| (name.as_str(), *value));
        tar.append_pax_extensions(pax.chain([("mtime", e.mtime.as_bytes())])).unwrap();
        let (kind, data, link): (_, &[u8], _) = match e.what {
            What::Dir => (tar::EntryType::Directory, &[], None),
            What::File(data) => (tar::EntryType::Regular, data, None),
            What::Link(to) => (tar::EntryType::Symlink, &[], Some(to)),
            What::Hard(to) => (tar::EntryType::Link, &[], Some(to)),
            What::Pipe => (tar::EntryType::Fifo, &[], None),
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(e.mode);
        header.set_uid(e.owner.0);
        header.set_gid(e.owner.1);
        header.set_size(data.len() as u64);
        header.set_mtime(e.mtime.split('.').next().unwrap().parse().unwrap());
        // Names that a careful writer would refuse are wanted as well.
        header.as_old_mut().name[..e.path.len()].copy_from_slice(e.path.as_bytes());
        if let Some(to) = link {
            header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }
    tar.into_inner().unwrap()
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn pack(self, data: &[u8]) -> (Vec<u8>, &'static str) {
        match self {
            Self::Plain => (data.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(data).unwrap();
                (out.finish().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
            }
            Self::Zstd => (zstd::encode_all(data, 3).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
        }
    }
}

pub fn sha256(data: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

pub fn sha512(data: &[u8]) -> String {
    format!("sha512:{}", Sha512::digest(data).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

pub fn architecture() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

/// An image and where its parts are.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: String,
    pub config: String,
    pub layers: Vec<String>,
}

impl Image {
    /// As Incus computes it.
    pub fn fingerprint(&self) -> String {
        sha256(self.layers.concat().as_bytes())["sha256:".len()..].to_string()
    }
}

/// Where a blob of a layout is.
pub fn place(dir: &Path, digest: &str) -> PathBuf {
    dir.join("blobs").join(digest.replace(':', "/"))
}

/// Writes the layout `dir` with one image, named `latest`. `config`: the JSON of what is run.
pub fn layout(dir: &Path, layers: &[(&[u8], Packing)], config: &str) -> Image {
    layout_by(sha256, dir, layers, config)
}

/// [`layout`], with digests by another hash.
pub fn layout_by(hash: fn(&[u8]) -> String, dir: &Path, layers: &[(&[u8], Packing)], config: &str) -> Image {
    let blob = |dir: &Path, data: &[u8]| {
        let digest = hash(data);
        let path = place(dir, &digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
        digest
    };
    let arch = architecture();
    let (mut descriptors, mut ids, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    for (tar, packing) in layers {
        let (data, media) = packing.pack(tar);
        let digest = blob(dir, &data);
        descriptors.push(format!(r#"{{"mediaType":"{media}","digest":"{digest}","size":{}}}"#, data.len()));
        ids.push(format!("\"{}\"", hash(tar)));
        digests.push(digest);
    }
    let text = format!(
        r#"{{"created":"2024-01-02T03:04:05Z","os":"linux","architecture":"{arch}","config":{config},
            "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = blob(dir, text.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{
            "mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{}}},"layers":[{}]}}"#,
        text.len(),
        descriptors.join(",")
    );
    let digest = blob(dir, manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}",
            "size":{},"platform":{{"os":"linux","architecture":"{arch}"}},
            "annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#,
        manifest.len()
    );
    std::fs::write(dir.join("index.json"), index).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    Image { manifest: digest, config, layers: digests }
}

/// Files that a web server serves as a registry: the image of a layout as `repository:tag`.
pub fn registry(layout: &Path, image: &Image, www: &Path, (repository, tag): (&str, &str)) {
    let folder = www.join("v2").join(repository);
    for kind in ["manifests", "blobs"] {
        std::fs::create_dir_all(folder.join(kind)).unwrap();
    }
    let from = |digest: &str| place(layout, digest);
    for name in [tag, &image.manifest] {
        std::fs::copy(from(&image.manifest), folder.join("manifests").join(name)).unwrap();
    }
    for digest in image.layers.iter().chain([&image.config]) {
        std::fs::copy(from(digest), folder.join("blobs").join(digest)).unwrap();
    }
}

/// A system that can be run: `busybox` is its only program.
fn base_layer(busybox: &[u8]) -> Vec<u8> {
    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:a:/home/app:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\napp:x:1001:\nextra:x:55:app\n";
    // cap_net_raw+ep, version 2 (capabilities(7)).
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let old = "1400000000";
    let base = [
        entry("./"),
        entry("etc/"),
        entry("etc/passwd").what(What::File(PASSWD)),
        entry("etc/group").what(What::File(GROUP)),
        entry("bin/"),
        entry("bin/busybox").what(What::File(busybox)).mode(0o755),
        entry("bin/sh").what(What::Hard("bin/busybox")),
        entry("sbin/"),
        entry("sbin/init").what(What::Link("../bin/busybox")),
        entry("gone/"),
        entry("gone/a"),
        entry("gone/deep/"),
        entry("gone/deep/b"),
        entry("op/").mtime(old).mode(0o750).owner(5, 6),
        entry("op/old"),
        entry("op/sub/"),
        entry("op/sub/old"),
        entry("op/keep/"),
        entry("op/keep/old"),
        entry("file2dir"),
        entry("dir2file/"),
        entry("dir2file/in"),
        entry("link2dir").what(What::Link("etc")),
        entry("cap").mode(0o755).xattr("security.capability", CAPABILITY).xattr("user.a", b"b\n\0c"),
        entry("times/").mtime(old),
        entry("times/one"),
        entry("lib").what(What::Link("usr/lib")),
        entry("usr/"),
        entry("usr/lib/").xattr("user.old", b"1"),
        entry("usr/lib/x"),
        entry("suid").mode(0o4755).owner(1, 2),
        entry("sticky/").mode(0o1777),
        entry("pipe").what(What::Pipe).mode(0o600),
        entry("wipe"),
        entry("one").what(What::File(b"one")),
        entry("huge").owner(300_000, 200_000),
        entry("dev/"),
        entry("proc/"),
        entry("sys/"),
        entry("run/"),
        entry("tmp/").mode(0o1777),
    ];
    layer(&base)
}

/// The layers of a system that can be run, with what layers are about: whiteouts, opaque folders, links over layers, kinds that
/// change, owners, attributes and times. `busybox` is its only program.
pub fn layers(busybox: &[u8]) -> [Vec<u8>; 3] {
    let middle = [
        entry(".wh.gone"),
        entry("op/").mtime("1450000000").mode(0o755).owner(7, 8),
        entry("op/new"),
        entry("op/.wh..wh..opq"),
        entry("op/keep/"),
        entry("op/keep/new"),
        entry("file2dir/"),
        entry("file2dir/now"),
        entry("dir2file").what(What::File(b"file")),
        entry("link2dir/").mode(0o700),
        entry("times/two"),
        entry("lib/y"),
        entry("usr/lib/").mode(0o711).xattr("user.new", b"2"),
        entry("two").what(What::Hard("one")),
        entry("etc/.wh..wh.plnk"),
    ];
    let top = [
        entry(".wh.wipe"),
        entry("wipe2"),
        entry("times/.wh.one"),
        entry(".wh.notthere"),
        entry("no/.wh.folder"),
        entry("gone/").mode(0o700),
        entry("gone/c"),
        // The name gets another file; the other name keeps the old one.
        entry("one").what(What::File(b"new")),
        entry("op/.wh.new"),
        // A whiteout behind what the layer itself brings.
        entry("late"),
        entry(".wh.late"),
    ];
    [base_layer(busybox), layer(&middle), layer(&top)]
}
