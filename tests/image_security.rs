//! The rows of the security cases about images and archives, named after them. Run as root the owners are kept; otherwise the tests of
//! owners and nodes are skipped loudly.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write files, start programs and name what they skip"
)]

mod image_common;

use image_common::{Ar, Image, is_root};
use stapes::error::Kind;
use stapes::image::Limits;
use stapes::image::import::Source;
use stapes::image::unpack::{self, Options, Owners};
use stapes::sys::path::Links;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

struct Jail {
    dir: tempfile::TempDir,
}

impl Jail {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
        std::fs::create_dir(dir.path().join("root")).expect("mkdir");
        std::fs::create_dir(dir.path().join("host")).expect("mkdir");
        std::fs::write(dir.path().join("host/canary"), "host").expect("write");
        Self { dir }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn unpack_with(&self, ar: Ar, options: &Options) -> stapes::error::Result<unpack::Stats> {
        let root = stapes::sys::path::open_root(&self.root()).expect("root");
        let bytes = ar.finish();
        let result = unpack::archive(&bytes[..], root, options);
        // Whatever happened: the host's side is as it was.
        assert_eq!(std::fs::read(self.dir.path().join("host/canary")).expect("canary"), b"host");
        assert_eq!(std::fs::read_dir(self.dir.path().join("host")).expect("host").count(), 1);
        assert_eq!(std::fs::metadata(self.dir.path().join("host")).expect("host").mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(self.dir.path()).expect("jail").count(), 2);
        result
    }

    fn unpack(&self, ar: Ar) -> stapes::error::Result<unpack::Stats> {
        self.unpack_with(ar, &options())
    }

    fn host(&self) -> String {
        self.dir.path().join("host").to_string_lossy().into_owned()
    }
}

fn options() -> Options {
    let owners = if is_root() { Owners::Keep } else { Owners::Caller };
    Options { owners, ..Options::default() }
}

#[test]
fn rustsec_2026_0067_link_then_directory_of_the_same_name() {
    let j = Jail::new();
    let host = j.host();
    // A mode change through the link was the hole.
    let ar = Ar::default().symlink("x", &host).dir("x", 0o777).file("x/canary", b"guest");
    j.unpack(ar).expect("replaced");
    assert!(std::fs::symlink_metadata(j.root().join("x")).expect("x").is_dir());
    assert_eq!(std::fs::read(j.root().join("x/canary")).expect("file"), b"guest");
}

#[test]
fn rustsec_2018_0002_entries_below_a_link_stay_inside() {
    let j = Jail::new();
    // Absolute: seen from the root, as the container would; made there.
    let ar = Ar::default().symlink("x", &j.host()).file("x/canary", b"guest");
    let _ = j.unpack(ar);
    for target in ["../host", "../../../../../../../../host", "/../host"] {
        let j = Jail::new();
        let _ = j.unpack(Ar::default().symlink("x", target).file("x/canary", b"guest"));
        let _ = j.unpack(Ar::default().symlink("x", target).dir("x/sub", 0o755));
        let _ = j.unpack(Ar::default().symlink("x", target).hard_link("y", "x/canary"));
        let _ = j.unpack(Ar::default().symlink("x", target).symlink("x/l", "/etc"));
        assert!(!j.root().join("y").exists());
    }
    // Through /proc of the host.
    let j = Jail::new();
    let cwd = Ar::default().symlink("x", "/proc/self/cwd").file("x/planted", b"guest");
    let _ = j.unpack(cwd);
    assert!(!Path::new("planted").exists());
    // A chain.
    let j = Jail::new();
    let ar =
        Ar::default().dir("d", 0o755).symlink("d/up", "..").symlink("d/up2", "up/..").file("d/up2/host/canary", b"g");
    let _ = j.unpack(ar);
}

#[test]
fn a_link_inside_works_as_in_the_container() {
    let j = Jail::new();
    let ar = Ar::default()
        .dir("usr/bin", 0o755)
        .symlink("bin", "/usr/bin")
        .file("bin/ls", b"ls")
        .hard_link("bin/dir", "bin/ls");
    j.unpack(ar).expect("unpacked");
    assert_eq!(std::fs::read(j.root().join("usr/bin/dir")).expect("file"), b"ls");
    // With Links::Refuse it is an error.
    let j = Jail::new();
    let ar = Ar::default().dir("usr", 0o755).symlink("bin", "usr").file("bin/ls", b"ls");
    assert!(j.unpack_with(ar, &Options { links: Links::Refuse, ..options() }).is_err());
}

#[test]
fn hard_links_out_are_refused() {
    for target in ["../host/canary", "../../../../etc/passwd", "a/../../host/canary"] {
        let j = Jail::new();
        assert!(j.unpack(Ar::default().dir("a", 0o755).hard_link("l", target)).is_err(), "{target}");
        assert!(!j.root().join("l").exists());
    }
    // To itself: only if it is there.
    let j = Jail::new();
    assert!(j.unpack(Ar::default().hard_link("l", "l")).is_err());
    j.unpack(Ar::default().file("f", b"x").hard_link("f", "./f")).expect("as it was");
    let j = Jail::new();
    // An absolute target is one of the archive's own names.
    assert!(j.unpack(Ar::default().hard_link("l", "/etc/passwd")).is_err());
    let j = Jail::new();
    assert!(j.unpack(Ar::default().symlink("e", "/").hard_link("l", "e/etc/passwd")).is_err());
}

#[test]
fn hard_link_then_file_does_not_write_into_the_target() {
    let j = Jail::new();
    let ar = Ar::default().file("a", b"first").hard_link("b", "a").file("b", b"second");
    j.unpack(ar).expect("unpacked");
    assert_eq!(std::fs::read(j.root().join("a")).expect("a"), b"first");
    assert_eq!(std::fs::read(j.root().join("b")).expect("b"), b"second");
}

#[test]
fn link_then_file_does_not_write_through_the_link() {
    let j = Jail::new();
    let canary = format!("{}/canary", j.host());
    let ar = Ar::default().symlink("l", &canary).file("l", b"guest").symlink("m", "../host/canary").hard_link("n", "m");
    j.unpack(ar).expect("unpacked");
    assert!(std::fs::symlink_metadata(j.root().join("l")).expect("l").is_file());
    assert!(std::fs::symlink_metadata(j.root().join("n")).expect("n").is_symlink());
}

#[test]
fn absolute_names_land_inside_and_dots_are_refused() {
    let j = Jail::new();
    j.unpack(Ar::default().file("/etc/x", b"x").file("//y", b"y").file("./z", b"z")).expect("unpacked");
    for name in ["etc/x", "y", "z"] {
        assert!(j.root().join(name).is_file(), "{name}");
    }
    for name in ["../host/canary", "..", "a/../../host/canary", "a/..", "/../x", "./../x"] {
        let j = Jail::new();
        assert!(j.unpack(Ar::default().dir("a", 0o755).file(name, b"x")).is_err(), "{name}");
    }
    let j = Jail::new();
    assert!(j.unpack(Ar::default().symlink(".", "/etc")).is_err());
    assert!(j.unpack(Ar::default().file("./", b"")).is_ok(), "a trailing slash is a directory");
}

#[test]
fn a_directory_with_contents_is_not_replaced() {
    let j = Jail::new();
    assert!(j.unpack(Ar::default().file("d/f", b"x").symlink("d", "/etc")).is_err());
    let j = Jail::new();
    assert!(j.unpack(Ar::default().file("d/f", b"x").file("d", b"x")).is_err());
    let j = Jail::new();
    // Empty: the last entry wins, and open handles of the old one are not used.
    let ar = Ar::default().dir("d", 0o755).file("d2", b"").symlink("d", "e").dir("e", 0o755).file("d/f", b"x");
    j.unpack(ar).expect("unpacked");
    assert!(j.root().join("e/f").is_file());
}

#[test]
fn cve_2021_41089_modes_and_owners_never_pass_a_link() {
    let j = Jail::new();
    let ar = Ar::default()
        .symlink_mode("l", &j.host(), 0o7777)
        .dir("d", 0o700)
        .symlink("d/l", &format!("{}/canary", j.host()));
    j.unpack(ar).expect("unpacked");
}

#[test]
fn long_and_odd_names() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    for name in [long.as_str(), deep.as_str()] {
        let j = Jail::new();
        assert!(j.unpack(Ar::default().pax(&[("path", name)]).file("x", b"")).is_err());
    }
    let j = Jail::new();
    let limits = Limits { depth: 3, ..Limits::default() };
    assert!(j.unpack_with(Ar::default().file("a/b/c/d", b""), &Options { limits, ..options() }).is_err());
    let j = Jail::new();
    j.unpack(Ar::default().file("new\nline", b"").file("tab\t\x1b[31m", b"")).expect("odd but possible");
}

#[test]
fn nodes_and_set_id_bits() {
    if !is_root() {
        eprintln!("SKIP nodes_and_set_id_bits: needs root");
        return;
    }
    let j = Jail::new();
    let ar = Ar::default()
        .node(b'3', "null", 1, 3)
        .node(b'4', "sda", 8, 0)
        .node(b'6', "fifo", 0, 0)
        .mode(0o6755)
        .file("suid", b"x")
        .mode(0o1777)
        .dir("tmp", 0o1777);
    let stats = j.unpack(ar).expect("unpacked");
    assert_eq!(stats.nodes, 2);
    let meta = |n: &str| std::fs::symlink_metadata(j.root().join(n)).expect(n);
    assert!(meta("null").file_type().is_char_device());
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("suid").mode() & 0o7777, 0o6755);
    assert_eq!(meta("suid").uid(), 1000);
    assert_eq!(meta("tmp").mode() & 0o7777, 0o1777);
    // Numbers the kernel would cut are refused.
    let j = Jail::new();
    assert!(j.unpack(Ar::default().node(b'3', "x", 1 << 12, 0)).is_err());
}

#[test]
fn attributes() {
    let j = Jail::new();
    let cap = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let ar = Ar::default()
        .pax_bytes(&[
            ("SCHILY.xattr.user.note", b"line\nline\0"),
            ("SCHILY.xattr.security.capability", &cap),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"label"),
        ])
        .file("f", b"x");
    let stats = j.unpack(ar).expect("unpacked");
    assert!(stats.skipped_xattrs >= 3);
    let file = std::fs::File::open(j.root().join("f")).expect("open");
    let names: Vec<String> = stapes::sys::xattr::list(std::os::fd::AsFd::as_fd(&file))
        .expect("list")
        .into_iter()
        .map(|(n, _)| String::from_utf8(n).expect("text"))
        .collect();
    if is_root() {
        assert_eq!(names, ["security.capability", "user.note"]);
    }
    // Too many.
    let mut many = Vec::new();
    for i in 0..65 {
        many.push((format!("SCHILY.xattr.user.n{i}"), "v"));
    }
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert!(Jail::new().unpack(Ar::default().pax(&many).file("f", b"")).is_err());
}

#[test]
fn cve_2024_3056_many_directories_are_bounded_in_memory() {
    let mut ar = Ar::default();
    for i in 0..1000 {
        ar = ar.dir(&format!("d{i}"), 0o755);
    }
    let limits = Limits { memory: 50_000, ..Limits::default() };
    assert!(Jail::new().unpack_with(ar, &Options { limits, ..options() }).is_err());
    let limits = Limits { bytes: 1000, ..Limits::default() };
    let ar = Ar::default().file("a", &[1; 600]).file("b", &[1; 600]);
    assert!(Jail::new().unpack_with(ar, &Options { limits, ..options() }).is_err());
}

/// CVE-2026-48750, -48749, -63343, -63125: well-known names as anything but what they should be; the import fails closed.
#[test]
fn cve_2026_48750_well_known_names_in_archives() {
    let rootfs = |ar: Ar| ar.dir("rootfs", 0o755).file("rootfs/f", b"x");
    let good = |ar: Ar| rootfs(ar.file("metadata.yaml", image_common::METADATA));
    let image = Image::new();
    image.unified(good(Ar::default())).expect("good");
    let bad: Vec<(&str, Ar)> = vec![
        ("metadata link", rootfs(Ar::default().symlink("metadata.yaml", "/etc/passwd"))),
        ("metadata hard link", rootfs(Ar::default()).hard_link("metadata.yaml", "rootfs/f")),
        ("metadata dir", rootfs(Ar::default().dir("metadata.yaml", 0o755))),
        ("metadata fifo", rootfs(Ar::default().node(b'6', "metadata.yaml", 0, 0))),
        ("metadata below", good(Ar::default()).file("metadata.yaml/x", b"")),
        ("metadata twice", good(Ar::default()).file("metadata.yaml", image_common::METADATA)),
        ("metadata missing", rootfs(Ar::default())),
        ("rootfs missing", Ar::default().file("metadata.yaml", image_common::METADATA)),
        ("rootfs empty", Ar::default().file("metadata.yaml", image_common::METADATA).dir("rootfs", 0o755)),
        ("rootfs link", Ar::default().file("metadata.yaml", image_common::METADATA).symlink("rootfs", "/etc")),
        ("rootfs file", Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs", b"")),
        ("rootfs then link", good(Ar::default()).symlink("rootfs", "/etc")),
        ("templates link", good(Ar::default()).symlink("templates", "/etc")),
        ("template link", good(Ar::default()).symlink("templates/a", "/etc/passwd")),
        ("template hard link", good(Ar::default()).hard_link("templates/a", "rootfs/f")),
        ("template below", good(Ar::default()).file("templates/a/b", b"x")),
        ("template twice", good(Ar::default()).file("templates/a", b"x").file("templates/a", b"x")),
        ("config.json link", good(Ar::default()).symlink("config.json", "/etc/passwd")),
        ("link to metadata", good(Ar::default()).hard_link("rootfs/m", "metadata.yaml")),
        ("link out", good(Ar::default()).hard_link("rootfs/m", "rootfs/../metadata.yaml")),
    ];
    for (what, ar) in bad {
        let image = Image::new();
        assert!(image.unified(ar).is_err(), "{what}");
        image.assert_contained();
    }
    // Names of Incus's instance directory are not written at all.
    for name in ["backup.yaml", "exec-output", "state", "network", "etc/passwd"] {
        let image = Image::new();
        image.unified(good(Ar::default()).symlink(name, "/etc")).expect("left out");
        assert!(!image.staging().join(name).exists());
    }
}

#[test]
fn no_images() {
    let tar = Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs/f", b"x").finish();
    for (what, bytes, kind) in [
        ("nothing", vec![], Kind::Invalid),
        ("text", b"hello".repeat(1000), Kind::Invalid),
        ("zip", b"PK\x03\x04".repeat(1000), Kind::Invalid),
        ("cut", tar[..tar.len() - 1024].to_vec(), Kind::Invalid),
        ("cut in a file", tar[..700].to_vec(), Kind::Invalid),
        ("disk alone", image_common::qcow2(), Kind::Invalid),
        ("squashfs alone", b"hsqs".repeat(500), Kind::Invalid),
        (
            "no disk",
            Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs.img", b"QFI").finish(),
            Kind::Invalid,
        ),
        ("backup", Ar::default().file("backup/index.yaml", b"").finish(), Kind::Invalid),
    ] {
        let image = Image::new();
        let e = image.unified_bytes(bytes).expect_err(what);
        assert_eq!(e.kind(), kind, "{what}: {e}");
        assert!(e.to_string().starts_with("Failed importing \"test.tar\": "), "{what}: {e}");
    }
}

fn with_metadata() -> Ar {
    Ar::default().file("metadata.yaml", image_common::METADATA)
}

/// Refuses the disk in both forms of an image.
fn no_disk(what: &str, disk: &[u8], why: &str) {
    let input = |data: Vec<u8>| image_common::input(data);
    let source = Source::Split { metadata: input(with_metadata().finish()), rootfs: input(disk.to_vec()) };
    let split = Image::new().import(source, None).expect_err(what).to_string();
    let unified = with_metadata().file("rootfs.img", disk).finish();
    let unified = Image::new().unified_bytes(unified).expect_err(what).to_string();
    for e in [split, unified] {
        // Zeros could be an archive: then it is one with nothing in it.
        assert!(why.is_empty() || e.starts_with("Failed importing ") && e.contains(why), "{what}: {e}");
    }
}

/// A disk that names another file, whoever made it, comes in in neither form; nor does one that is not qcow2.
#[test]
fn cve_2024_32498_cve_2024_4467_cve_2026_24708_disks_that_name_other_files() {
    let good = image_common::qcow2();
    let changed = |at: usize, value: &[u8]| {
        let mut disk = good.clone();
        disk[at..at + value.len()].copy_from_slice(value);
        disk
    };
    no_disk("backing file", &changed(8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11]), "needs a backing file");
    no_disk("data file", &changed(79, &[4]), "needs an external data file");
    no_disk("named data file", &changed(112, b"DATA\0\0\0\x0b/etc/passwd"), "names an external data file");
    no_disk("LUKS", &changed(32, &[0, 0, 0, 2]), "is encrypted");
    no_disk("no disk", &[], "");
    for (what, magic) in
        [("raw", &b"\xeb\x63\x90"[..]), ("vmdk", b"KDMV\x01"), ("vhd", b"conectix"), ("text", b"# Disk")]
    {
        let mut disk = magic.to_vec();
        disk.resize(8192, 0);
        no_disk(what, &disk, "");
    }
    for ar in [
        with_metadata().file("rootfs.img", &good).file("rootfs/x", b"x"),
        with_metadata().file("rootfs.img", &good).file("rootfs.img", &good),
        with_metadata().file("rootfs.img/x", &good),
        with_metadata().symlink("rootfs.img", "/dev/sda"),
        with_metadata().file("rootfs/x", b"x").hard_link("rootfs.img", "rootfs/x"),
        with_metadata().node(b'4', "rootfs.img", 8, 0),
    ] {
        assert_eq!(Image::new().unified_bytes(ar.finish()).expect_err("refused").kind(), Kind::Invalid);
    }
}

/// The same with disks of the tool, and those that it makes for images come in.
#[test]
fn cve_2024_32498_cve_2024_4467_cve_2026_24708_disks_of_the_tool() {
    if std::process::Command::new("qemu-img").arg("--version").output().is_err() {
        return eprintln!("SKIP disks_of_the_tool: the program \"qemu-img\" is missing");
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let make = |words: &str| {
        // For LUKS it measures how fast the processor is, and gives up where others use it, too.
        let mut tries = (0..5).map(|_| {
            let mut tool = std::process::Command::new("qemu-img");
            tool.args(words.split(' ')).current_dir(dir.path()).output().expect("qemu-img")
        });
        assert!(tries.any(|done| done.status.success()), "{words}");
        std::fs::read(dir.path().join("disk")).expect("disk")
    };
    std::fs::write(dir.path().join("secret"), vec![7; 65536]).expect("write");
    let backed = make("create -q -f qcow2 -F raw -b secret disk");
    no_disk("backing file of the tool", &backed, "needs a backing file");
    let apart = make("create -q -f qcow2 -o data_file=apart,data_file_raw=on disk 1M");
    no_disk("data file of the tool", &apart, "external data file");
    let locked = "create -q --object secret,id=s,data=x -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s disk 1M";
    no_disk("LUKS of the tool", &make(locked), "is encrypted");
    for (what, words) in [("raw", "create -q -f raw disk 1M"), ("vmdk", "create -q -f vmdk disk 1M")] {
        no_disk(what, &make(words), "");
    }
    for words in [
        "create -q -f qcow2 disk 40G",
        "create -q -f qcow2 -o compat=0.10 disk 1M",
        "create -q -f qcow2 -o cluster_size=512,lazy_refcounts=on disk 1G",
        "create -q -f qcow2 -o cluster_size=2M,extended_l2=on disk 1T",
        "convert -q -c -O qcow2 -o compression_type=zstd secret disk",
        "convert -q -c -O qcow2 secret disk",
        "snapshot -q -c s disk",
        "bitmap --add disk b",
    ] {
        let image = Image::new();
        let imported = image.unified_bytes(with_metadata().file("rootfs.img", &make(words)).finish());
        assert!(imported.is_ok(), "{words}: {imported:?}");
    }
}

#[test]
fn cve_2026_33542_fingerprint_is_checked_over_all_files() {
    let image = Image::new();
    let imported = image.unified(Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs/f", b"x"));
    let good = imported.expect("good").fingerprint;
    let other = stapes::image::Fingerprint::parse(&"0".repeat(64)).expect("fingerprint");
    let tar = || Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs/f", b"x").finish();
    Image::new().expecting(tar(), &good).expect("the right one");
    let e = Image::new().expecting(tar(), &other).expect_err("another");
    assert_eq!(e.to_string(), format!("Image fingerprint doesn't match. Got {good} expected {other}"));
}

#[test]
fn cve_2026_41567_no_program_is_taken_from_the_archive() {
    // An import has no way to run a program at all.
    for pack in [image_common::gzip, image_common::xz, image_common::zstd] {
        let tar =
            Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs/bin/xz", b"#!/bin/sh").finish();
        Image::new().unified_bytes(pack(&tar)).expect("decoded by us");
    }
}

#[test]
fn data_after_the_stream_is_refused() {
    let tar = Ar::default().file("metadata.yaml", image_common::METADATA).file("rootfs/f", b"x").finish();
    for pack in [image_common::gzip, image_common::xz, image_common::zstd] {
        let mut bytes = pack(&tar);
        bytes.extend_from_slice(b"trailing");
        assert!(Image::new().unified_bytes(bytes).is_err());
        // Damage inside is seen although the archive ends before it.
        let mut bytes = pack(&tar);
        let n = bytes.len();
        bytes[n - 6] ^= 0x55;
        assert!(Image::new().unified_bytes(bytes).is_err());
    }
}

#[test]
fn staging_must_be_empty_and_real() {
    let image = Image::new();
    std::fs::write(image.staging().join("x"), "").expect("write");
    assert!(image.unified(Ar::default()).is_err());
    let image = Image::new();
    std::fs::remove_dir(image.staging()).expect("rmdir");
    symlink("/etc", image.staging()).expect("symlink");
    assert!(image.unified(Ar::default()).is_err());
}

/// CVE-2021-40153, CVE-2021-41072: names in a squashfs that lead upwards, hold slashes or come twice. They are
/// refused, or nothing comes of them; nothing is written outside.
#[test]
fn cve_2021_40153_names_in_a_squashfs() {
    use stapes::image::import::{Input, Source};
    let found = std::env::var_os("PATH").unwrap_or_default();
    if !is_root() || !std::env::split_paths(&found).any(|d| d.join("mksquashfs").is_file()) {
        eprintln!("SKIP cve_2021_40153_names_in_a_squashfs: needs root and squashfs-tools");
        return;
    }
    let from = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let (tree, file) = (from.path().join("tree"), from.path().join("squashfs"));
    std::fs::create_dir_all(tree.join("dir")).expect("mkdir");
    for name in ["xx_canary", "yyyyyyyyy", "dir/zz_zz_zz_canary"] {
        std::fs::write(tree.join(name), "guest").expect("write");
    }
    let mut make = std::process::Command::new("mksquashfs");
    make.arg(&tree).arg(&file).args(["-noI", "-noD", "-noF", "-noX", "-noappend", "-quiet", "-no-progress"]);
    assert!(make.stdout(std::process::Stdio::null()).status().expect("mksquashfs").success());
    let good = std::fs::read(&file).expect("read");
    for (name, hostile) in [
        ("xx_canary", "../canary"),
        ("xx_canary", "/../canar"),
        ("zz_zz_zz_canary", "../../../canary"),
        ("xx_canary", "yyyyyyyyy"),
        ("xx_canary", "a/b/c/d/e"),
        ("yyyyyyyyy", "dir\0\0\0\0\0\0"),
        ("dir", "..\0"),
        ("dir", "../"),
    ] {
        let mut bytes = good.clone();
        let at: Vec<usize> =
            (0..bytes.len() - name.len()).filter(|i| bytes[*i..].starts_with(name.as_bytes())).collect();
        assert!(!at.is_empty(), "{name} is not in the clear");
        for i in at {
            bytes[i..i + name.len()].copy_from_slice(hostile.as_bytes());
        }
        std::fs::write(&file, bytes).expect("write");
        let image = Image::new();
        let metadata = image_common::input(Ar::default().file("metadata.yaml", image_common::METADATA).finish());
        let source = Source::Split { metadata, rootfs: Input::open(&file).expect("open") };
        let done = image.import(source, None);
        image.assert_contained();
        assert!(!image.staging().join("canary").exists(), "{hostile:?}: {done:?}");
    }
}

/// CVE-2023-30549: no file system of a user's is ever mounted: an image that is another one is none.
#[test]
fn cve_2023_30549_other_file_systems_are_no_images() {
    use stapes::image::import::Source;
    let marks: [(&str, usize, &[u8]); 6] = [
        ("ext4", 1080, &[0x53, 0xef]),
        ("xfs", 0, b"XFSB"),
        ("btrfs", 0x10040, b"_BHRfS_M"),
        ("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
        ("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
        ("iso9660", 0x8001, b"CD001"),
    ];
    for (name, at, mark) in marks {
        let mut bytes = vec![0; 1 << 17];
        bytes[at..at + mark.len()].copy_from_slice(mark);
        assert!(Image::new().unified_bytes(bytes.clone()).is_err(), "{name}");
        let image = Image::new();
        let metadata = image_common::input(Ar::default().file("metadata.yaml", image_common::METADATA).finish());
        let done = image.import(Source::Split { metadata, rootfs: image_common::input(bytes) }, None);
        assert!(done.is_err(), "{name}");
        image.assert_contained();
    }
}
