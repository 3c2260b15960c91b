//! Images from the command line: every kind comes in and goes out as it was, and what is none leaves nothing behind.
#![allow(clippy::disallowed_methods, reason = "tests start programs and read files")]

mod common_root;
mod image_common;
#[path = "root_images/support.rs"]
mod support;

use common_root::can_run as root;
use image_common::{Ar, METADATA, gzip, xz, zstd};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{State, program, sha256};

/// A small image that nothing can be run in.
fn plain() -> Ar {
    let files = Ar::default().file("metadata.yaml", METADATA).dir("rootfs", 0o755).dir("rootfs/etc", 0o755);
    files.file("rootfs/etc/hostname", b"image\n").symlink("rootfs/etc/link", "/etc/hostname")
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut w = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    w.write_all(data).expect("bzip2");
    w.finish().expect("bzip2")
}

fn lz4(data: &[u8]) -> Vec<u8> {
    let mut w = lz4_flex::frame::FrameEncoder::new(Vec::new());
    w.write_all(data).expect("lz4");
    w.finish().expect("lz4")
}

fn lzma(data: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(1).expect("preset");
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).expect("lzma");
    let mut w = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    w.write_all(data).expect("lzma");
    w.finish().expect("lzma")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Exports the image and compares with the files it came from.
fn exported(state: &State, fingerprint: &str, files: &[(&Path, &str)]) {
    let out = tempfile::tempdir_in(state.path()).expect("folder");
    assert_eq!(state.good(&["image", "export", fingerprint, text(out.path())]), "Image exported successfully!\n");
    let mut names: Vec<String> = std::fs::read_dir(out.path())
        .expect("list")
        .map(|e| e.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let mut expected: Vec<&str> = files.iter().map(|(_, name)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for (file, name) in files {
        assert!(std::fs::read(file).expect("file") == std::fs::read(out.path().join(name)).expect("export"), "{name}");
    }
}

#[test]
fn unified_of_every_compression() {
    if !root("unified_of_every_compression") {
        return;
    }
    let state = State::new();
    let tar = plain().finish();
    type Compress = fn(&[u8]) -> Vec<u8>;
    let kinds: [(&str, Compress); 7] = [
        (".tar", |t| t.to_vec()),
        (".tar.gz", gzip),
        (".tar.bz2", bzip2),
        (".tar.xz", xz),
        (".tar.zst", zstd),
        (".tar.lz4", lz4),
        (".tar.lzma", lzma),
    ];
    for (ending, compress) in kinds {
        // The name says nothing.
        let file = state.file(&format!("image{}", ending.len()), &compress(&tar));
        let fingerprint = state.import(&[text(&file), "--alias", &ending[1..], "os=Over"]);
        assert_eq!(fingerprint, sha256(&[&file]), "{ending}");
        exported(&state, &ending[1..], &[(&file, &format!("{fingerprint}{ending}"))]);
        let info = state.good(&["image", "info", &fingerprint[..12]]);
        assert!(info.contains("    os: Over\n") && info.contains("Architecture: x86_64\n"), "{info}");
        assert!(state.pool().join("images").join(&fingerprint).join("rootfs/etc/hostname").exists());
    }
    assert_eq!(state.good(&["image", "list", "-f", "csv", "-c", "l"]).lines().count(), kinds.len());
    state.assert_clean();
}

#[test]
fn split_and_folder() {
    if !root("split_and_folder") {
        return;
    }
    let state = State::new();
    let tree = state.path().join("tree");
    std::fs::create_dir_all(tree.join("rootfs/etc")).expect("mkdir");
    std::fs::create_dir_all(tree.join("templates")).expect("mkdir");
    std::fs::write(tree.join("metadata.yaml"), METADATA).expect("write");
    std::fs::write(tree.join("templates/x.tpl"), "{{ instance.name }}").expect("write");
    std::fs::write(tree.join("rootfs/etc/hostname"), "image\n").expect("write");
    std::os::unix::fs::chown(tree.join("rootfs/etc/hostname"), Some(1000), Some(1001)).expect("chown");
    let meta = state.file("meta", &xz(&Ar::default().file("metadata.yaml", METADATA).finish()));
    let tar = state.file("root", &gzip(&Ar::default().dir(".", 0o755).file("./etc/x", b"y").finish()));
    let both = state.import(&[text(&meta), text(&tar), "--public"]);
    assert_eq!(both, sha256(&[&meta, &tar]));
    exported(&state, &both, &[(&meta, &format!("meta-{both}.tar.xz")), (&tar, &format!("{both}.tar.gz"))]);
    // A file as target: no endings for two files, the right one for one.
    state.good(&["image", "export", &both, "mine"]);
    assert_eq!(std::fs::read(state.path().join("mine")).expect("file"), std::fs::read(&meta).expect("file"));
    assert_eq!(std::fs::read(state.path().join("mine.root")).expect("file"), std::fs::read(&tar).expect("file"));
    let folder = state.import(&[text(&tree), "--alias", "folder"]);
    state.good(&["image", "export", "folder", "mine"]);
    assert_eq!(sha256(&[&state.path().join("mine.tar.xz")]), folder);
    let unpacked = state.pool().join("images").join(&folder).join("rootfs/etc/hostname");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(unpacked).expect("file")), 1000);
    if program("split_and_folder", "mksquashfs") {
        let squashfs = state.path().join("root.squashfs");
        let mut tool = Command::new("mksquashfs");
        tool.arg(tree.join("rootfs")).arg(&squashfs).args(["-quiet", "-no-progress", "-noappend"]);
        assert!(tool.stdout(Stdio::null()).status().expect("mksquashfs").success());
        let fingerprint = state.import(&[text(&meta), text(&squashfs)]);
        assert_eq!(fingerprint, sha256(&[&meta, &squashfs]));
        let names = [format!("meta-{fingerprint}.tar.xz"), format!("{fingerprint}.squashfs")];
        exported(&state, &fingerprint, &[(&meta, &names[0]), (&squashfs, &names[1])]);
        let unpacked = state.pool().join("images").join(&fingerprint).join("rootfs/etc/hostname");
        assert_eq!(std::fs::read(unpacked).expect("file"), b"image\n");
    }
    state.assert_clean();
}

/// Neither with nor without the option is an instance made of `machine` and `again`.
fn no_instance(state: &State) {
    for words in [&["create", "machine", "c1"][..], &["launch", "again", "c1"], &["run", "machine", "--", "true"]] {
        let said = state.run(words);
        let refusal = "Error: Virtual machines are not supported by this version\n";
        assert!(said.code != 0 && said.err == refusal, "{words:?}: {said:?}");
    }
    assert_eq!(state.bad(&["launch", "machine", "c1", "--vm"]), "The option --vm isn't supported yet");
}

/// What can be done with the image of a virtual machine before there are any: all but making an instance of it.
#[test]
fn images_of_virtual_machines() {
    if !root("images_of_virtual_machines") {
        return;
    }
    let state = State::new();
    let meta = state.file("meta.tar.xz", &xz(&Ar::default().file("metadata.yaml", METADATA).finish()));
    let disk = state.file("disk.qcow2", &image_common::qcow2());
    if program("images_of_virtual_machines", "qemu-img") {
        // The one made by hand above is right, and one of the tool comes in.
        let check = Command::new("qemu-img").args(["check", "-q"]).arg(&disk).status().expect("qemu-img");
        assert!(check.success());
        let mut make = Command::new("qemu-img");
        let made = make.args(["convert", "-c", "-O", "qcow2", "disk.qcow2", "made.qcow2"]).current_dir(state.path());
        assert!(made.status().expect("qemu-img").success());
        let made = state.path().join("made.qcow2");
        let fingerprint = state.import(&[text(&meta), text(&made)]);
        assert_eq!(fingerprint, sha256(&[&meta, &made]));
        state.good(&["image", "delete", &fingerprint]);
    }
    let split = state.import(&[text(&meta), text(&disk), "--alias", "machine", "os=Other"]);
    assert_eq!(split, sha256(&[&meta, &disk]));
    let files = Ar::default().file("metadata.yaml", METADATA).file("rootfs.img", &image_common::qcow2());
    let both = state.file("both.tar.gz", &gzip(&files.finish()));
    let unified = state.import(&[text(&both)]);
    assert_eq!(unified, sha256(&[&both]));
    let plain = state.file("plain", &gzip(&plain().finish()));
    let container = state.import(&[text(&plain), "--alias", "container"]);

    let list = |filter: &str| state.good(&["image", "list", filter, "-f", "csv", "-c", "Ft"]);
    let machines = list("type=virtual-machine");
    for fingerprint in [&split, &unified] {
        assert!(machines.contains(&format!("{fingerprint},VIRTUAL-MACHINE\n")), "{machines}");
    }
    assert_eq!(machines.lines().count(), 2);
    assert_eq!(list("type=container"), format!("{container},CONTAINER\n"));
    let aliases = state.good(&["image", "alias", "list", "-f", "csv", "-c", "at"]);
    assert_eq!(aliases, "container,CONTAINER\nmachine,VIRTUAL-MACHINE\n");
    let info = state.good(&["image", "info", "machine", "--vm"]);
    assert!(info.contains("\nType: virtual-machine\n") && info.contains("\n    os: Other\n"), "{info}");
    assert_eq!(state.good(&["image", "info", "machine"]), info);
    assert_eq!(state.bad(&["image", "info", "container", "--vm"]), "Image \"container\" not found");
    assert_eq!(state.good(&["image", "get-property", "machine", "os"]), "Other\n");
    assert!(state.good(&["image", "show", "machine", "--vm"]).contains("os: Other"));
    let said = state.run_with_input(&["image", "edit", "machine"], b"properties:\n  os: Edited\npublic: true\n");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(state.good(&["image", "list", "os=Edited", "-f", "csv", "-c", "tp"]).contains("VIRTUAL-MACHINE,yes"));
    state.good(&["image", "alias", "create", "again", &unified[..12]]);
    assert!(state.good(&["image", "alias", "list", "again", "-f", "csv", "-c", "t"]).contains("VIRTUAL-MACHINE"));

    exported(&state, &split, &[(&meta, &format!("meta-{split}.tar.xz")), (&disk, &format!("{split}.qcow2"))]);
    exported(&state, &unified, &[(&both, &format!("{unified}.tar.gz"))]);
    // No instance is made of one, with or without the option, and nothing of it is in the pool.
    no_instance(&state);
    assert!(!state.pool().join("images").join(&split).exists() && !state.pool().join("images").join(&unified).exists());
    assert_eq!(state.good(&["list", "-f", "csv"]), "");
    state.assert_clean();
    // A name that moves to an image of the other type says so.
    state.good(&["image", "delete", "machine"]);
    state.import(&[text(&meta), text(&disk), "--alias", "container"]);
    let aliases = state.good(&["image", "alias", "list", "container", "-f", "csv", "-c", "at"]);
    assert_eq!(aliases, "container,VIRTUAL-MACHINE\n");
    state.good(&["image", "delete", "container", &unified, &container]);
    let after: Vec<String> = state.listing().into_keys().filter(|p| p.starts_with("state/images/")).collect();
    assert_eq!(after, ["state/images/aliases.toml"]);
    state.assert_clean();
}

#[test]
fn a_metadata_file_from_answers() {
    if !root("a_metadata_file_from_answers") {
        return;
    }
    let state = State::new();
    let generate = |answers: &[u8]| state.run_with_input(&["image", "generate-metadata", "meta.tar.gz"], answers);
    let said = generate(b"Debian\nbookworm\n\n\n\n");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let arch = std::env::consts::ARCH;
    let questions = format!(
        "Operating system name (e.g. Debian): Release name (e.g. bookworm): Variant name [default=default]: \
         Architecture name [default={arch}]: Description [default=Debian bookworm {arch} ("
    );
    assert!(said.out.starts_with(&questions), "{said:?}");
    let (meta, disk) = (state.path().join("meta.tar.gz"), state.file("disk.qcow2", &image_common::qcow2()));
    let fingerprint = state.import(&[text(&meta), text(&disk)]);
    let info = state.good(&["image", "info", &fingerprint]);
    for line in [
        &format!("Architecture: {arch}"),
        "    os: Debian",
        "    release: bookworm",
        "    variant: default",
        &format!("    description: Debian bookworm {arch} ("),
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    // Everything given, in other spellings; the end of the input means the defaults.
    let said = generate(b" Alpine \nedge\ncloud\narm64\nMine: a = b\n");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let root = state.file("root", &gzip(&Ar::default().file("x", b"y").finish()));
    let info = state.good(&["image", "info", &state.import(&[text(&meta), text(&root)])]);
    for line in
        ["Architecture: aarch64\n", "    os: Alpine\n", "    variant: cloud\n", "    description: Mine: a = b\n"]
    {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert_eq!(generate(b"Debian\nbookworm").code, 0);
    let kept = std::fs::read(&meta).expect("file");
    for answers in [&b""[..], b"Debian\n\n", b"Debian\nx\n\nz80\n\n", b"De\x07bian\nx\n\n\n\n"] {
        let said = generate(answers);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.starts_with("Error: ") && std::fs::read(&meta).expect("file") == kept, "{said:?}");
    }
    assert!(state.run_with_input(&["image", "generate-metadata", "no/meta"], b"a\nb\n").err.contains("no"));
    let left = std::fs::read_dir(state.path()).expect("list");
    assert!(left.flatten().all(|e| !e.file_name().as_encoded_bytes().starts_with(b".stapes-")));
}

/// Every file is refused with one error, and the state is afterwards what it was before. The rows of the security cases that
/// end in "fail closed": CVE-2026-48749, -48750, -63125, -63343, -48752, RUSTSEC-2018-0002, CVE-2025-62518, CVE-2026-41567.
#[test]
fn what_is_no_image_leaves_nothing() {
    if !root("what_is_no_image_leaves_nothing") {
        return;
    }
    let state = State::new();
    let good = state.file("good", &gzip(&plain().finish()));
    state.import(&[text(&good), "--alias", "good"]);
    let before = state.listing();
    let refused = |words: &[&str]| {
        let error = state.bad(&[&["image", "import", "--alias", "new"], words].concat());
        assert_eq!(state.listing(), before, "{words:?}: {error}");
        error
    };
    for (name, data) in wrong_files() {
        let file = state.file("wrong", &data);
        let error = refused(&[text(&file)]);
        assert!(!error.is_empty(), "{name}");
        println!("{name}: {error}");
    }
    let meta = state.file("meta", &Ar::default().file("metadata.yaml", METADATA).finish());
    for (name, data) in wrong_roots() {
        let file = state.file("wrong", &data);
        println!("{name}: {}", refused(&[text(&meta), text(&file)]));
    }
    std::fs::create_dir(state.path().join("empty")).expect("mkdir");
    for words in [
        &["nothing-there"][..],
        &["empty"],
        &["meta", "empty"],
        &["empty", "meta"],
        &["https://images.invalid/x"],
        &["http://images.invalid/x"],
        &["good", "bad\nkey=x"],
        &["good", "key=bad\u{7}value"],
        &["good", "--alias", "../x"],
        &["good"],
    ] {
        println!("{words:?}: {}", refused(words));
    }
    state.assert_clean();
}

fn wrong_files() -> Vec<(String, Vec<u8>)> {
    let tar = plain().file("rootfs/big", &noise(300_000)).finish();
    let mut all: Vec<(String, Vec<u8>)> = vec![
        ("empty file".into(), Vec::new()),
        ("text".into(), b"#!/bin/sh\necho this is no image\n".repeat(100)),
        ("zeros".into(), vec![0; 20_000]),
        ("noise".into(), noise(20_000)),
        ("data behind the archive".into(), [gzip(&tar), b"more".to_vec()].concat()),
        ("disk image".into(), [b"QFI\xfb\0\0\0\x03".to_vec(), vec![0; 8192]].concat()),
    ];
    for (name, packed) in
        [("gz", gzip(&tar)), ("xz", xz(&tar)), ("zst", zstd(&tar)), ("bz2", bzip2(&tar)), ("tar", tar)]
    {
        for part in [1, 2, 9] {
            all.push((format!("truncated {name} {part}"), packed[..packed.len() * part / 10].to_vec()));
        }
        let mut flipped = packed.clone();
        let at = flipped.len() / 2;
        flipped[at..at + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
        // Inside the content of a plain archive nobody can tell.
        if name != "tar" {
            all.push((format!("damaged {name}"), flipped));
        }
    }
    let metadata = |text: &str| Ar::default().file("metadata.yaml", text.as_bytes()).file("rootfs/x", b"x").finish();
    let rootfs = |ar: Ar| ar.file("metadata.yaml", METADATA);
    let hostile = [
        ("no metadata", Ar::default().file("rootfs/x", b"x").finish()),
        ("no rootfs", Ar::default().file("metadata.yaml", METADATA).finish()),
        ("metadata is no YAML", metadata("{[")),
        ("no architecture", metadata("creation_date: 1\n")),
        ("unknown architecture", metadata("architecture: z80\ncreation_date: 1\n")),
        ("no date", metadata("architecture: x86_64\n")),
        ("huge metadata", metadata(&format!("architecture: x86_64\ncreation_date: 1\n#{}", "x".repeat(2 << 20)))),
        (
            "template with a path",
            metadata("architecture: x86_64\ncreation_date: 1\ntemplates: {/x: {template: ../y}}\n"),
        ),
        ("metadata is a link", Ar::default().symlink("metadata.yaml", "/etc/passwd").file("rootfs/x", b"").finish()),
        (
            "metadata is a hard link",
            Ar::default().hard_link("metadata.yaml", "rootfs/x").file("rootfs/x", b"").finish(),
        ),
        ("rootfs is a link", rootfs(Ar::default()).symlink("rootfs", "/").file("rootfs/x", b"x").finish()),
        ("templates is a link", plain().symlink("templates", "/etc").finish()),
        ("a template is a link", rootfs(Ar::default()).symlink("templates/x", "/etc/passwd").finish()),
        ("a template in a folder", rootfs(Ar::default()).file("templates/a/b", b"x").finish()),
        ("up and away", rootfs(Ar::default()).file("rootfs/../../../../canary", b"x").finish()),
        ("hard link to the host", rootfs(Ar::default()).hard_link("rootfs/x", "/etc/passwd").finish()),
        ("hard link upwards", rootfs(Ar::default()).hard_link("rootfs/x", "rootfs/../../../etc/passwd").finish()),
        ("through a link", rootfs(Ar::default()).symlink("rootfs/a", "/etc").file("rootfs/a/b", b"x").finish()),
        ("virtual machine", rootfs(Ar::default()).file("rootfs.img", b"QFI\xfb").finish()),
        ("backup", Ar::default().file("backup/index.yaml", b"name: c1\n").finish()),
    ];
    all.extend(hostile.map(|(name, data)| (name.to_string(), data)));
    all
}

fn wrong_roots() -> Vec<(String, Vec<u8>)> {
    let tar = Ar::default().file("big", &noise(200_000)).finish();
    let packed = gzip(&tar);
    vec![
        ("disk image as rootfs".into(), [b"QFI\xfb\0\0\0\x03".to_vec(), vec![0; 8192]].concat()),
        ("truncated rootfs".into(), packed[..packed.len() / 2].to_vec()),
        ("text as rootfs".into(), b"text".repeat(1000)),
        ("empty rootfs".into(), Vec::new()),
        ("nothing in the rootfs".into(), Ar::default().finish()),
        ("no squashfs behind its magic".into(), [b"hsqs".to_vec(), noise(40_000)].concat()),
        ("up and away in the rootfs".into(), Ar::default().file("../../canary", b"x").finish()),
    ]
}

/// Bytes that do not compress, the same each time.
fn noise(count: u32) -> Vec<u8> {
    (0..count).map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(11) >> 7) as u8).collect()
}

#[test]
fn names_move_and_old_images_go() {
    if !root("names_move_and_old_images_go") {
        return;
    }
    let state = State::new();
    let file = |n: u8| text(&state.file(&format!("i{n}"), &plain().file("rootfs/n", &[n]).finish())).to_string();
    let one = state.import(&[&file(1), "--alias", "a", "--alias", "b"]);
    assert_eq!(state.bad(&["image", "import", &file(1)]), "Image with same fingerprint already exists");
    let two = state.import(&[&file(2), "--alias", "a"]);
    let aliases = || state.good(&["image", "alias", "list", "-f", "csv", "-c", "af"]);
    assert_eq!(aliases(), format!("a,{}\nb,{}\n", &two[..12], &one[..12]));
    // `a` is all that the second has; the first keeps nothing once `b` goes too.
    let three = state.import(&[&file(3), "--alias", "a", "--reuse"]);
    assert!(state.bad(&["image", "info", &two]).ends_with("not found"));
    let four = state.import(&[&file(4), "--alias", "a", "--alias", "b", "--reuse"]);
    assert_eq!(aliases(), format!("a,{0}\nb,{0}\n", &four[..12]));
    for gone in [&one, &three] {
        assert!(state.bad(&["image", "info", gone]).ends_with("not found"));
        assert!(!state.pool().join("images").join(gone).exists());
    }
    assert_eq!(state.bad(&["image", "alias", "create", "a", &four]), "Alias \"a\" already exists");
    state.good(&["image", "alias", "create", "c/d", &four[..10], "--description", "third"]);
    assert_eq!(state.bad(&["image", "alias", "rename", "c/d", "a"]), "Alias \"a\" already exists");
    state.good(&["image", "alias", "rename", "c/d", "e"]);
    assert_eq!(state.bad(&["image", "alias", "delete", "c/d"]), "Image alias not found");
    state.good(&["image", "alias", "delete", "e", "b"]);
    let said = state.run(&["image", "delete", "nope", "a", "nor-this"]);
    assert_eq!((said.code, said.err.as_str()), (1, "Error: Image \"nope\" not found\nImage \"nor-this\" not found\n"));
    assert_eq!(state.good(&["image", "list", "-f", "csv"]) + &aliases(), "");
    let left: Vec<_> = std::fs::read_dir(state.images()).expect("list").map(|e| e.expect("e").file_name()).collect();
    assert_eq!(left, ["aliases.toml"]);
    assert_eq!(std::fs::read_dir(state.pool().join("images")).expect("list").count(), 0);
    state.assert_clean();
}

/// Several commands want the same at once: one gets it, the others see that.
/// The folder of an image's users may come back without the image: a power cut kept one and lost the other.
#[test]
fn what_is_left_of_an_image_is_found() {
    const NAME: &str = "what_is_left_of_an_image_is_found";
    if !root(NAME) {
        return;
    }
    let state = State::new();
    let image = state.import(&[text(&state.file("image", &plain().finish())), "--alias", "a"]);
    let users = |image: &str| state.pool().join(format!("images/{image}.users"));
    if !users(&image).is_dir() {
        return common_root::skip(NAME, "the pool's driver has no such folder");
    }
    let before = state.listing();
    let gone = "ab".repeat(32);
    std::fs::create_dir(users(&gone)).expect("mkdir");
    std::os::unix::fs::symlink(format!("../../images/{gone}"), users(&gone).join(".image")).expect("symlink");
    // A user whose volume is not there either.
    std::os::unix::fs::symlink(format!("../../images/{gone}"), users(&gone).join("containers:c1")).expect("symlink");
    let found = state.run(&["doctor", "-f", "csv"]);
    let message = format!("what is left of image {} in pool", &gone[..12]);
    assert!(found.code == 1 && found.out.contains(&message), "{found:?}");
    assert!(users(&gone).is_dir(), "without --fix it stays");
    state.good(&["doctor", "--fix"]);
    assert_eq!(state.listing(), before);
    state.assert_clean();
}

#[test]
fn at_the_same_time() {
    if !root("at_the_same_time") {
        return;
    }
    let state = State::new();
    let file = state.file("image", &gzip(&plain().file("rootfs/big", &noise(3_000_000)).finish()));
    let run = |words: &[&[&str]]| -> Vec<support::Said> {
        std::thread::scope(|scope| {
            let all: Vec<_> = words.iter().map(|w| scope.spawn(|| state.run(w))).collect();
            all.into_iter().map(|t| t.join().expect("thread")).collect()
        })
    };
    let import = ["image", "import", text(&file)];
    let said = run(&[&import[..]; 4]);
    assert_eq!(said.iter().filter(|s| s.code == 0).count(), 1, "{said:?}");
    let exists = "Error: Image with same fingerprint already exists\n";
    assert!(said.iter().filter(|s| s.code != 0).all(|s| s.err == exists), "{said:?}");
    let fingerprint = sha256(&[&file]);
    let delete = ["image", "delete", &fingerprint[..20]];
    let said = run(&[&delete[..]; 3]);
    assert_eq!(said.iter().filter(|s| s.code == 0).count(), 1, "{said:?}");
    state.assert_clean();
    if !program("at_the_same_time", "busybox") {
        return;
    }
    let names = ["c1", "c2", "c3", "c4"];
    let create: Vec<[&str; 3]> = names.iter().map(|name| ["create", "bootstrap:busybox", *name]).collect();
    let words: Vec<&[&str]> = create.iter().map(|w| &w[..]).collect();
    let said = run(&words);
    assert!(said.iter().all(|s| s.code == 0), "{said:?}");
    assert_eq!(state.good(&["image", "list", "-f", "csv"]).lines().count(), 1, "built once");
    state.assert_clean();
}

#[test]
fn unpacked_again_where_it_is_missing_and_kept_where_it_is_used() {
    let name = "unpacked_again_where_it_is_missing_and_kept_where_it_is_used";
    if !root(name) || !program(name, "busybox") {
        return;
    }
    let state = State::new();
    state.good(&["launch", "bootstrap:busybox", "c1"]);
    state.good(&["launch", "bootstrap:busybox", "c2"]);
    let list = state.good(&["image", "list", "-f", "csv", "-c", "F"]);
    assert_eq!(list.lines().count(), 1, "the second launch uses what the first built");
    let fingerprint = list.trim();
    let shown = state.good(&["image", "list", "bootstrap:", "busybox", "-f", "csv", "-c", "lF"]);
    assert_eq!(shown, format!("busybox,{fingerprint}\n"));
    let unpacked = state.pool().join("images").join(fingerprint);
    state.good(&["image", "delete", fingerprint]);
    assert!(unpacked.exists(), "instances use it");
    assert_eq!(state.good(&["exec", "c1", "--", "echo", "still here"]), "still here\n");
    state.assert_clean();
    state.good(&["restart", "-f", "c2"]);
    state.good(&["delete", "-f", "c1", "c2"]);
    assert!(!unpacked.exists(), "nobody uses it");
    state.assert_clean();
    // Now one whose unpacked tree is lost, and one whose stored file is damaged besides.
    state.good(&["create", "bootstrap:busybox", "c1"]);
    let fingerprint = state.good(&["image", "list", "-f", "csv", "-c", "F"]).trim().to_string();
    state.good(&["delete", "c1"]);
    std::fs::remove_dir_all(state.pool().join("images").join(&fingerprint)).expect("remove");
    state.good(&["launch", &fingerprint[..12], "c1"]);
    assert_eq!(state.good(&["exec", "c1", "--", "echo", "back"]), "back\n");
    state.good(&["delete", "-f", "c1"]);
    std::fs::remove_dir_all(state.pool().join("images").join(&fingerprint)).expect("remove");
    let rootfs = state.images().join(format!("{fingerprint}.rootfs"));
    let mut data = std::fs::read(&rootfs).expect("read");
    let half = data.len() / 2;
    data[half] ^= 1;
    std::fs::write(&rootfs, data).expect("write");
    let error = state.run(&["create", &fingerprint, "c1"]);
    assert!(error.code == 1 && error.err.contains("Failed unpacking image"), "{error:?}");
    state.assert_clean();
}
