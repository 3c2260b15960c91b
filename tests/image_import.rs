//! Imports of every form, checked against GNU tar and against the trees they were made from.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write files, start programs and name what they skip"
)]

mod image_common;

use image_common::{Ar, Image, METADATA, describe, hex, input, is_root};
use stapes::image::decompress::Format;
use stapes::image::import::{Imported, Input, Source};
use stapes::model::instance::InstanceType;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
}

fn have(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok() || Command::new(program).arg("-version").output().is_ok()
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().expect(program);
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A small rootfs with one of each kind.
fn sample(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let p = |n: &str| dir.join(n);
    std::fs::create_dir_all(p("rootfs/etc/deep/er")).expect("mkdir");
    std::fs::create_dir_all(p("rootfs/empty")).expect("mkdir");
    std::fs::create_dir_all(p("templates")).expect("mkdir");
    std::fs::write(p("metadata.yaml"), METADATA).expect("write");
    std::fs::write(p("templates/hostname.tpl"), "{{ instance.name }}\n").expect("write");
    std::fs::write(p("rootfs/etc/hostname"), "x\n").expect("write");
    std::fs::write(p("rootfs/etc/empty"), "").expect("write");
    std::fs::write(p("rootfs/big"), (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).expect("write");
    std::fs::write(p("rootfs").join("n".repeat(200)), "long").expect("write");
    std::fs::write(p("rootfs/naïve name"), "utf-8").expect("write");
    std::fs::hard_link(p("rootfs/big"), p("rootfs/etc/big2")).expect("link");
    symlink("/etc/hostname", p("rootfs/abs")).expect("symlink");
    symlink("t".repeat(180), p("rootfs/longlink")).expect("symlink");
    std::fs::set_permissions(p("rootfs/etc/hostname"), PermissionsExt::from_mode(0o6755)).expect("chmod");
    let holes = std::fs::File::create(p("rootfs/holes")).expect("create");
    for (at, text) in [(0u64, "start"), (1 << 20, "middle"), (2 << 20, "end")] {
        std::os::unix::fs::FileExt::write_all_at(&holes, text.as_bytes(), at).expect("write");
    }
    holes.set_len(3 << 20).expect("truncate");
    let _ = stapes::sys::xattr::set(std::os::fd::AsFd::as_fd(&holes), b"user.note", b"a\nb");
    nix::unistd::mkfifo(&p("rootfs/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    if is_root() {
        std::os::unix::fs::chown(p("rootfs/etc/empty"), Some(1000), Some(3_000_000)).expect("chown");
        let null = nix::sys::stat::makedev(1, 3);
        nix::sys::stat::mknod(&p("rootfs/null"), nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRUSR, null)
            .expect("mknod");
        let cap = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let file = std::fs::File::open(p("rootfs/big")).expect("open");
        stapes::sys::xattr::set(std::os::fd::AsFd::as_fd(&file), b"security.capability", &cap).expect("cap");
    }
    for name in ["rootfs/etc/deep/er", "rootfs/etc", "rootfs/empty", "rootfs"] {
        std::fs::File::open(p(name))
            .expect("open")
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(7))
            .expect("time");
    }
}

/// GNU tar writes each of its formats; what comes out of us is the tree it came from.
#[test]
fn gnu_tar_archives_of_all_formats() {
    if !have("tar") {
        return skip("gnu_tar_archives_of_all_formats", "no tar");
    }
    let made = Image::new();
    sample(made.path());
    let wanted = describe(&made.path().join("rootfs"));
    let dir = made.path().to_str().expect("path");
    let archive = made.path().join("blob.tar");
    let file = archive.to_str().expect("path");
    for format in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ] {
        let xattrs = format[0].ends_with("posix");
        let mut args = vec!["-C", dir, "--numeric-owner", "-cf", file];
        args.extend(format);
        if xattrs {
            args.extend(["--xattrs", "--xattrs-include=*"]);
        }
        args.extend(["metadata.yaml", "templates", "rootfs"]);
        run("tar", &args);
        let image = Image::new();
        let imported = image.import(Source::Unified(Input::open(&archive).expect("open")), None).expect("imported");
        let mut got = describe(&image.staging().join("rootfs"));
        let mut wanted = wanted.clone();
        if !xattrs {
            // Not in this format.
            for map in [&mut got, &mut wanted] {
                map.values_mut().filter(|t| t.contains('[')).for_each(|t| t.truncate(t.find('[').unwrap_or(0)));
            }
        }
        if !is_root() {
            got.values().for_each(|t| assert!(!t.is_empty()));
        } else {
            assert_eq!(got, wanted, "{format:?}");
        }
        assert_eq!(imported.fingerprint.as_str(), hex(&std::fs::read(&archive).expect("read")));
        assert_eq!(std::fs::read(image.path().join("blob")).expect("blob"), std::fs::read(&archive).expect("read"));
        assert!(image.staging().join("templates/hostname.tpl").is_file());
        let holes = std::fs::metadata(image.staging().join("rootfs/holes")).expect("stat");
        if format.contains(&"--sparse") {
            assert!(holes.blocks() * 512 < 1 << 20, "{format:?}: {} blocks", holes.blocks());
        }
    }
}

/// A folder becomes a unified image; twice the same bytes; GNU tar reads it as we do.
#[test]
fn folders_round_trip() {
    let made = Image::new();
    sample(made.path());
    let mut prints = Vec::new();
    for _ in 0..2 {
        let image = Image::new();
        let imported = image.import(Source::Directory(made.path()), None).expect("imported");
        assert_eq!(imported.format, Format::Zstd);
        assert!(imported.filename.ends_with(".tar.zst"));
        assert!(!imported.split);
        assert_eq!(imported.fingerprint.as_str(), hex(&std::fs::read(image.path().join("blob")).expect("blob")));
        if is_root() {
            assert_eq!(describe(&image.staging().join("rootfs")), describe(&made.path().join("rootfs")));
        }
        if have("tar") && have("zstd") && is_root() {
            let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
            let blob = image.path().join("blob");
            let args = [
                "-C",
                out.path().to_str().expect("path"),
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
                "--zstd",
                "-xpf",
            ];
            let blob = blob.to_str().expect("path");
            run("tar", &[&args[..], &[blob]].concat());
            assert_eq!(describe(&out.path().join("rootfs")), describe(&made.path().join("rootfs")));
        }
        prints.push(imported.fingerprint);
    }
    assert_eq!(prints[0], prints[1]);
}

#[test]
fn split_with_an_archive() {
    let meta = image_common::xz(&Ar::default().file("metadata.yaml", METADATA).file("templates/a", b"x").finish());
    let root =
        image_common::zstd(&Ar::default().dir("./", 0o755).file("./etc/x", b"x").hard_link("y", "./etc/x").finish());
    let image = Image::new();
    let imported = image
        .import(Source::Split { metadata: input(meta.clone()), rootfs: input(root.clone()) }, None)
        .expect("imported");
    assert_eq!(imported.fingerprint.as_str(), hex(&[&meta[..], &root].concat()));
    assert_eq!(imported.size, (meta.len() + root.len()) as u64);
    assert_eq!((imported.format, imported.rootfs_format), (Format::Xz, Some(Format::Zstd)));
    assert_eq!(std::fs::read(image.path().join("blob.rootfs")).expect("blob"), root);
    assert!(image.staging().join("rootfs/y").is_file());
    // A rootfs in the metadata is passed over.
    let unified = Ar::default().file("metadata.yaml", METADATA).file("rootfs/x", b"x").finish();
    let image = Image::new();
    image.import(Source::Split { metadata: input(unified), rootfs: input(root) }, None).expect("imported");
    assert!(image.staging().join("rootfs/y").is_file() && !image.staging().join("rootfs/x").exists());
}

/// Of a virtual machine image everything is judged and nothing is unpacked.
#[test]
fn disks_of_virtual_machines() {
    let disk = image_common::qcow2();
    let machine = |image: &Image, imported: &Imported, files: &[u8]| {
        assert_eq!(imported.kind, InstanceType::VirtualMachine);
        assert_eq!((imported.fingerprint.as_str(), imported.size), (hex(files).as_str(), files.len() as u64));
        assert_eq!(imported.metadata.properties["os"], "Test");
        assert_eq!((imported.stats.entries, imported.stats.bytes), (1, 16 << 20));
        assert_eq!(std::fs::read_dir(image.staging().join("rootfs")).expect("rootfs").count(), 0);
    };
    let meta = image_common::xz(&Ar::default().file("metadata.yaml", METADATA).file("templates/a", b"x").finish());
    let image = Image::new();
    let split = Source::Split { metadata: input(meta.clone()), rootfs: input(disk.clone()) };
    let imported = image.import(split, None).expect("split");
    machine(&image, &imported, &[&meta[..], &disk].concat());
    assert_eq!((imported.split, imported.rootfs_format), (true, Some(Format::Qcow2)));
    assert!(std::fs::read(image.path().join("blob.rootfs")).expect("blob") == disk);
    for ar in [
        Ar::default().file("metadata.yaml", METADATA).file("rootfs.img", &disk),
        Ar::default().file("./rootfs.img", &disk).dir("./templates", 0o755).file("./metadata.yaml", METADATA),
    ] {
        let (image, unified) = (Image::new(), image_common::gzip(&ar.finish()));
        let imported = image.unified_bytes(unified.clone()).expect("unified");
        machine(&image, &imported, &unified);
        assert_eq!((imported.split, imported.rootfs_format), (false, None));
    }
    // GNU tar leaves the holes of a disk out if it is told to.
    if have("tar") {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
        let at = dir.path().to_str().expect("UTF-8");
        std::fs::write(dir.path().join("metadata.yaml"), METADATA).expect("write");
        std::fs::write(dir.path().join("rootfs.img"), &disk).expect("write");
        for format in ["gnu", "posix"] {
            let out = format!("{at}/{format}.tar");
            run("tar", &["-cSf", &out, "--format", format, "-C", at, "metadata.yaml", "rootfs.img"]);
            let (image, unified) = (Image::new(), std::fs::read(&out).expect("archive"));
            let imported = image.unified_bytes(unified.clone()).expect("unified");
            machine(&image, &imported, &unified);
        }
    }
}

/// A tree packed by `mksquashfs` with these options comes out as it was.
fn squashfs(test: &str, image: &Image, options: &[&str]) {
    if !have("mksquashfs") || !is_root() {
        return skip(test, "needs root and squashfs-tools");
    }
    let made = Image::new();
    sample(made.path());
    let many = made.path().join("rootfs/many");
    std::fs::create_dir(&many).expect("mkdir");
    for n in 0..700usize {
        std::fs::write(many.join(format!("{n}-{}", "x".repeat(n % 90))), n.to_string().repeat(n * 3)).expect("write");
    }
    let file = made.path().join("blob.squashfs");
    let root = made.path().join("rootfs");
    let paths = [root.to_str().expect("path"), file.to_str().expect("path"), "-no-progress", "-quiet"];
    run("mksquashfs", &[&paths, options].concat());
    let meta = Ar::default().file("metadata.yaml", METADATA).finish();
    let source = Source::Split { metadata: input(meta.clone()), rootfs: Input::open(&file).expect("open") };
    let imported = image.import(source, None).expect("imported");
    assert_eq!(imported.rootfs_format, Some(Format::Squashfs));
    let joined = [meta, std::fs::read(&file).expect("read")].concat();
    assert_eq!(imported.fingerprint.as_str(), hex(&joined));
    assert_eq!(describe(&image.staging().join("rootfs")), describe(&root));
}

#[test]
fn split_with_a_squashfs_that_is_read_here() {
    for options in [
        &["-comp", "gzip"][..],
        &["-comp", "xz", "-b", "1M"],
        &["-comp", "lz4", "-b", "4096"],
        &["-comp", "zstd", "-no-duplicates"],
        &["-comp", "zstd", "-b", "4096", "-always-use-fragments"],
        &["-comp", "lzo"],
        &["-comp", "lzo", "-Xalgorithm", "lzo1x_1_11", "-b", "1M"],
        &["-comp", "lzma", "-b", "1M"],
        &["-comp", "lzma", "-b", "4096"],
        &["-comp", "gzip", "-no-fragments"],
        &["-noI", "-noD", "-noF", "-noX", "-no-sparse"],
    ] {
        squashfs("split_with_a_squashfs_that_is_read_here", &Image::new(), options);
    }
}

/// Whatever is changed in one, it comes out or is refused: no panic, no endless work, nothing outside.
#[test]
fn damaged_squashfs() {
    if !have("mksquashfs") || !is_root() {
        return skip("damaged_squashfs", "needs root and squashfs-tools");
    }
    let made = Image::new();
    sample(made.path());
    let (root, file) = (made.path().join("rootfs"), made.path().join("blob.squashfs"));
    let meta = Ar::default().file("metadata.yaml", METADATA).finish();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    let mut refused = 0;
    for options in [&["-noI", "-noX"][..], &["-comp", "zstd"], &["-comp", "lzo"], &["-comp", "lzma"]] {
        let paths = [root.to_str().expect("path"), file.to_str().expect("path"), "-no-progress", "-quiet", "-noappend"];
        run("mksquashfs", &[&paths, options].concat());
        let good = std::fs::read(&file).expect("read");
        for round in 0..90 {
            let mut bytes = good.clone();
            match round % 3 {
                // In the first bytes, and in the tables at the end, most numbers are.
                0 => bytes[next(96).max(4)] ^= 1 << next(8),
                1 => {
                    for _ in 0..4 {
                        let at = bytes.len() - 1 - next(6000.min(good.len()));
                        bytes[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)];
                    }
                }
                _ => bytes.truncate(good.len() - next(good.len() - 4)),
            }
            let image = Image::new();
            let source = Source::Split { metadata: input(meta.clone()), rootfs: input(bytes) };
            refused += usize::from(image.import(source, None).is_err());
            image.assert_contained();
        }
    }
    assert!(refused > 60, "only {refused} were refused");
}

/// Random trees: what GNU tar packs, both unpack alike.
#[test]
fn random_trees_like_gnu_tar() {
    if !have("tar") || !is_root() {
        return skip("random_trees_like_gnu_tar", "needs root and tar");
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for round in 0..25 {
        let mut ar = Ar::default();
        let mut files: Vec<String> = Vec::new();
        for i in 0..60 {
            let dir = ["", "a/", "a/b/", "c/d/e/"][next(4) as usize];
            let name = format!("{dir}{}{i}", "n".repeat(next(120) as usize));
            ar = match next(6) {
                0 => ar.dir(&name, 0o755),
                1 => ar.symlink(&name, &"t".repeat(1 + next(200) as usize)),
                2 if !files.is_empty() => {
                    let target = files[next(files.len() as u64) as usize].clone();
                    if target.len() > 100 { ar } else { ar.hard_link(&name, &target) }
                }
                3 => ar.node(b'6', &name, 0, 0),
                _ => {
                    files.push(name.clone());
                    ar.mode([0o644, 0o4755, 0o600][next(3) as usize])
                        .file(&name, &vec![round as u8; next(3000) as usize])
                }
            };
            // The same name again now and then.
            if next(5) == 0 && !files.is_empty() {
                let again = files[next(files.len() as u64) as usize].clone();
                ar = ar.file(&again, b"again");
            }
        }
        let bytes = ar.finish();
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
        let (ours, theirs, file) = (dir.path().join("ours"), dir.path().join("theirs"), dir.path().join("x.tar"));
        std::fs::create_dir(&ours).expect("mkdir");
        std::fs::create_dir(&theirs).expect("mkdir");
        std::fs::write(&file, &bytes).expect("write");
        run("tar", &["-C", theirs.to_str().expect("path"), "--numeric-owner", "-xpf", file.to_str().expect("path")]);
        let root = stapes::sys::path::open_root(&ours).expect("root");
        stapes::image::unpack::archive(&bytes[..], root, &stapes::image::unpack::Options::default()).expect("unpacked");
        let strip = |map: BTreeMap<String, String>| -> BTreeMap<String, String> {
            // Directories the archive does not mention get the date of their making.
            map.into_iter()
                .map(|(k, v)| if v.starts_with("40755 0:0") { (k, "implied".to_string()) } else { (k, v) })
                .collect()
        };
        assert_eq!(strip(describe(&ours)), strip(describe(&theirs)), "round {round}");
    }
}
