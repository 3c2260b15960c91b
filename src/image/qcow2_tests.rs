use super::super::Limits;
use super::*;

const FILE: u64 = 4 * 65536;
const LARGEST: u64 = 1 << 40;

type Change = fn(&mut Vec<u8>);

/// A sound header of version 3: 1 GiB in clusters of 64 KiB, tables in clusters 1 and 3.
fn sound() -> Vec<u8> {
    let mut head = vec![0; HEAD_MAX];
    head[..4].copy_from_slice(MAGIC);
    for (at, value) in [(4, 3u32), (20, 16), (36, 2), (56, 1), (96, 4), (100, 112)] {
        put32(&mut head, at, value);
    }
    for (at, value) in [(24, 1u64 << 30), (40, 3 * 65536), (48, 65536)] {
        put64(&mut head, at, value);
    }
    head
}

fn put32(head: &mut [u8], at: usize, value: u32) {
    head[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(head: &mut [u8], at: usize, value: u64) {
    head[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

fn extension(head: &mut [u8], at: usize, kind: u32, length: u32) {
    put32(head, at, kind);
    put32(head, at + 4, length);
}

fn judged(change: impl FnOnce(&mut Vec<u8>)) -> std::result::Result<Disk, String> {
    let mut head = sound();
    change(&mut head);
    judge(&head, FILE, LARGEST).map_err(|e| e.to_string())
}

#[test]
fn sound_headers() {
    let disk = Disk { version: 3, cluster: 65536, size: 1 << 30 };
    assert_eq!(judged(|_| ()), Ok(disk));
    assert_eq!(judged(|h| put32(h, 4, 2)), Ok(Disk { version: 2, ..disk }));
    assert_eq!(judged(|h| put32(h, 100, 104)), Ok(disk));
    // Refcounts to repair; an empty backing format is left when a backing file is merged; unknown extensions are passed over.
    assert_eq!(judged(|h| put64(h, 72, DIRTY)), Ok(disk));
    assert_eq!(judged(|h| extension(h, 112, BACKING_FORMAT, 0)), Ok(disk));
    assert_eq!(judged(|h| extension(h, 112, 0x6803_f857, 384)), Ok(disk));
    let zstd = |h: &mut Vec<u8>| {
        put64(h, 72, COMPRESSION);
        h[104] = 1;
    };
    assert_eq!(judged(zstd), Ok(disk));
    let snapshots = |h: &mut Vec<u8>| {
        put32(h, 60, 2);
        put64(h, 64, 2 * 65536);
    };
    assert_eq!(judged(snapshots), Ok(disk));
    // Entries of twice the length cover half as much.
    assert_eq!(judged(|h| put64(h, 72, SMALL_CLUSTERS)).map(|_| ()), Err(bad("its L1 table is too short").to_string()));
    let small = |h: &mut Vec<u8>| {
        put64(h, 72, SMALL_CLUSTERS);
        put32(h, 36, 4);
    };
    assert_eq!(judged(small), Ok(disk));
}

#[test]
fn cve_2024_32498_cve_2024_4467_cve_2026_24708_no_other_file_is_ever_named() {
    let table: [(&str, Change); 11] = [
        ("its disk needs a backing file", |h| put64(h, 8, 512)),
        ("its disk needs a backing file", |h| put32(h, 16, 11)),
        ("its disk needs an external data file", |h| put64(h, 72, DATA_FILE)),
        ("its disk needs an external data file", |h| put64(h, 72, DATA_FILE | 1 << 40)),
        ("its disk names an external data file", |h| extension(h, 112, DATA_FILE_NAME, 16)),
        ("its disk names an external data file", |h| {
            extension(h, 112, 0x6803_f857, 41);
            extension(h, 112 + 8 + 48, DATA_FILE_NAME, 16);
        }),
        ("its disk names an external data file", |h| {
            put32(h, 4, 2);
            extension(h, 72, DATA_FILE_NAME, 16);
        }),
        ("its disk names the format of a backing file", |h| extension(h, 112, BACKING_FORMAT, 3)),
        ("its disk is encrypted", |h| put32(h, 32, 1)),
        ("its disk is encrypted", |h| put32(h, 32, 2)),
        ("its disk is encrypted", |h| extension(h, 112, ENCRYPTION, 16)),
    ];
    for (what, change) in table {
        assert_eq!(judged(change), Err(bad(what).to_string()));
    }
}

#[test]
fn other_formats_are_never_guessed() {
    for head in
        [&b""[..], b"QFI", b"KDMV\x01\0\0\0", b"# Disk DescriptorFile", b"LUKS\xba\xbe\0\x01", b"QED\0", &[0; 512]]
    {
        let e = judge(head, head.len() as u64, LARGEST).expect_err("another format");
        assert_eq!(e.to_string(), "Bad virtual machine image: its disk is not in qcow2 format");
    }
}

#[test]
fn hostile_numbers() {
    let table: [(&str, Change); 32] = [
        ("version 0", |h| put32(h, 4, 0)),
        ("version 1", |h| put32(h, 4, 1)),
        ("version 4", |h| put32(h, 4, 4)),
        ("cluster bits 0", |h| put32(h, 20, 0)),
        ("cluster bits 8", |h| put32(h, 20, 8)),
        ("cluster bits 22", |h| put32(h, 20, 22)),
        ("cluster bits 64", |h| put32(h, 20, 64)),
        ("no disk", |h| put64(h, 24, 0)),
        ("a disk too large", |h| put64(h, 24, LARGEST + 1)),
        ("the largest disk", |h| put64(h, 24, u64::MAX)),
        ("marked as corrupt", |h| put64(h, 72, CORRUPT)),
        ("an unknown feature", |h| put64(h, 72, 1 << 5)),
        ("the last feature", |h| put64(h, 72, 1 << 63)),
        ("refcount order", |h| put32(h, 96, 7)),
        ("header length 0", |h| put32(h, 100, 0)),
        ("header of version 2", |h| put32(h, 100, 72)),
        ("odd header length", |h| put32(h, 100, 105)),
        ("header beyond a cluster", |h| put32(h, 100, 65544)),
        ("the longest header", |h| put32(h, 100, 0xffff_fff8)),
        ("compression without feature", |h| h[104] = 1),
        ("feature without compression", |h| put64(h, 72, COMPRESSION)),
        ("unknown compression", |h| {
            put64(h, 72, COMPRESSION);
            h[104] = 2;
        }),
        ("no L1 table", |h| put32(h, 36, 0)),
        ("L1 table too short", |h| put32(h, 36, 1)),
        ("L1 table beyond the end", |h| put64(h, 40, 4 * 65536)),
        ("L1 table over the header", |h| put64(h, 40, 0)),
        ("L1 table between clusters", |h| put64(h, 40, 3 * 65536 + 8)),
        ("L1 table at the end of numbers", |h| put64(h, 40, u64::MAX - 65535)),
        ("the longest L1 table", |h| put32(h, 36, u32::MAX)),
        ("no refcount table", |h| put32(h, 56, 0)),
        ("refcount table beyond the end", |h| put32(h, 56, 4)),
        ("extension beyond the cluster", |h| extension(h, 112, 0x6803_f857, u32::MAX)),
    ];
    for (what, change) in table {
        assert!(judged(change).is_err(), "{what}");
    }
    let snapshots = |count: u32, offset: u64| {
        judged(move |h| {
            put32(h, 60, count);
            put64(h, 64, offset);
        })
    };
    assert!(snapshots(1, 0).is_err() && snapshots(1, 1 << 40).is_err() && snapshots(65537, 65536).is_err());
}

#[test]
fn cut_anywhere() {
    let head = sound();
    for size in (0..200).chain([65535, 65536, 65537, 3 * 65536, 3 * 65536 + 15]) {
        let end = usize::try_from(size).expect("small").min(HEAD_MAX);
        assert!(judge(&head[..end], size, LARGEST).is_err(), "{size}");
    }
    assert!(judge(&head, 3 * 65536 + 16, LARGEST).is_ok(), "its tables are in the file");
    // Clusters larger than what is looked at: extensions cannot hide behind it.
    let mut head = sound();
    put32(&mut head, 20, 21);
    put64(&mut head, 40, 3 << 21);
    put64(&mut head, 48, 1 << 21);
    assert!(judge(&head, 4 << 21, LARGEST).is_ok());
    extension(&mut head, 112, 0x6803_f857, 65536);
    assert!(judge(&head, 4 << 21, LARGEST).is_err());
}

#[test]
fn an_entry_with_holes_is_seen_as_it_will_be() {
    let mut archive = Vec::new();
    // Only the header is there; the tables are holes.
    let pieces = [Segment { offset: 0, len: 512 }, Segment { offset: FILE, len: 0 }];
    let mut source = &sound()[..512];
    let entry = Entry {
        kind: super::super::tarread::EntryKind::File,
        path: b"rootfs.img".to_vec(),
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size: FILE,
        segments: Some(pieces.to_vec()),
        device: (0, 0),
        xattrs: Vec::new(),
    };
    let mut tar = super::super::tarwrite::TarWriter::new(&mut archive);
    tar.append(&entry, &mut source).expect("written");
    tar.finish().expect("written");
    let mut tar = TarReader::new(&archive[..], &Limits::default());
    let found = tar.next_entry().expect("archive").expect("entry");
    assert!(found.segments.is_some());
    let disk = super::entry(&mut tar, &found, LARGEST).expect("sound");
    assert_eq!(disk.size, 1 << 30);
}

/// Headers changed at random: none is a panic, and what passes holds what `judge` promises.
#[test]
fn random_headers_never_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut passed = 0;
    for _ in 0..20_000 {
        let mut head = sound()[..512].to_vec();
        for _ in 0..=next() % 3 {
            let at = usize::try_from(next() % 136).expect("small");
            head[at] = next().to_le_bytes()[0];
        }
        let Ok(disk) = judge(&head, FILE, LARGEST) else { continue };
        passed += 1;
        let number = |at: usize| u64::from_be_bytes(*head[at..].first_chunk().expect("the header is there"));
        assert!(number(8) == 0 && number(32) >> 32 == 0 && (1..=LARGEST).contains(&disk.size));
        assert!(disk.version == 2 || number(72) & !KNOWN == 0);
        assert!(number(40) + (number(36) >> 32) * 8 <= FILE && number(48) + (number(56) >> 32) * disk.cluster <= FILE);
    }
    assert!(passed > 100, "{passed} of them are sound");
}
