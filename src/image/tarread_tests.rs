//! Tests of the archive reader: what two readers could understand differently is refused.

use super::*;

fn header(kind: u8, name: &str, size: u64) -> Vec<u8> {
    let mut h = tar::Header::new_gnu();
    h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    h.set_mode(0o644);
    h.set_uid(1);
    h.set_gid(2);
    h.set_mtime(3);
    h.set_size(size);
    h.as_old_mut().linkflag[0] = kind;
    h.set_cksum();
    h.as_bytes().to_vec()
}

fn member(kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
    let mut all = header(kind, name, data.len() as u64);
    all.extend_from_slice(data);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn read(parts: &[Vec<u8>]) -> Result<Vec<(String, u64, Vec<u8>)>> {
    read_with(parts, &Limits::default())
}

fn read_with(parts: &[Vec<u8>], limits: &Limits) -> Result<Vec<(String, u64, Vec<u8>)>> {
    let bytes = parts.concat();
    let mut tar = TarReader::new(&bytes[..], limits);
    let mut all = Vec::new();
    while let Some(e) = tar.next_entry()? {
        let data = tar.small_data("data", 1 << 20)?;
        all.push((String::from_utf8_lossy(&e.path).into_owned(), e.size, data));
    }
    Ok(all)
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

#[test]
fn names_and_data() {
    let got = read(&[
        member(b'0', "a", b"hello"),
        member(b'L', "././@LongLink", &[&vec![b'n'; 300][..], b"\0"].concat()),
        member(b'0', "short", b""),
        member(b'g', "x", b"13 comment=x\n"),
        member(b'x', "x", b"11 path=pp\n\n".get(..11).expect("record")),
        end(),
    ]);
    assert!(got.is_err(), "an extended header at the end describes nothing");
    let got = read(&[
        member(b'0', "a", b"hello"),
        member(b'L', "././@LongLink", &[&vec![b'n'; 300][..], b"\0"].concat()),
        member(b'0', "short", b""),
        member(b'x', "x", b"11 path=pp\n"),
        member(b'0', "own", b"z"),
        end(),
    ])
    .expect("good");
    assert_eq!(got[0], ("a".into(), 5, b"hello".to_vec()));
    assert_eq!(got[1].0, "n".repeat(300));
    assert_eq!(got[2], ("pp".into(), 1, b"z".to_vec()));
}

/// RUSTSEC-2025-0110/0111, -2026-0068, -0112, -0145: the size in a PAX header frames the next file, and only that.
#[test]
fn cve_2025_62518_pax_size_frames_the_next_file() {
    let inner = [member(b'0', "smuggled", b"evil"), end()].concat();
    let size = format!("{}", inner.len());
    let record = format!("{} size={size}\n", size.len() + 9);
    // The header says 0: other readers once took the content for further entries.
    let mut file = header(b'0', "outer", 0);
    file.extend_from_slice(&inner);
    let got = read(&[member(b'x', "x", record.as_bytes()), file, end()]).expect("good");
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1, inner.len() as u64);
    // A long name in between has its own size.
    let got = read(&[
        member(b'x', "x", b"9 size=1\n"),
        member(b'L', "l", b"longer than one byte\0"),
        member(b'0', "n", b"z"),
        end(),
    ])
    .expect("good");
    assert_eq!(got, [("longer than one byte".to_string(), 1, b"z".to_vec())]);
    // Two sizes that are both possible.
    assert!(read(&[member(b'x', "x", b"9 size=1\n"), member(b'0', "n", b"zz"), end()]).is_err());
}

#[test]
fn only_files_have_contents() {
    for kind in *b"123456" {
        assert!(read(&[member(kind, "n", b"data"), end()]).is_err(), "{}", char::from(kind));
    }
    assert!(read(&[member(b'0', "dir/", b"data"), end()]).is_err());
}

#[test]
fn malformed_archives() {
    let good = member(b'0', "a", b"hello");
    let mut sum = good.clone();
    sum[0] = b'b';
    let mut size = good.clone();
    size[124..136].copy_from_slice(b"99999999999\0");
    for (what, parts) in [
        ("no end", vec![good.clone()]),
        ("half a header", vec![good.clone(), vec![1; 100]]),
        ("half a file", vec![good[..600].to_vec()]),
        ("checksum", vec![sum, end()]),
        ("size", vec![size, end()]),
        ("type", vec![member(b'Z', "a", b""), end()]),
        ("multi-volume", vec![member(b'M', "a", b""), end()]),
        ("dump", vec![member(b'D', "a", b""), end()]),
        ("two names", vec![member(b'L', "l", b"x\0"), member(b'L', "l", b"y\0"), good.clone(), end()]),
        ("names differ", vec![member(b'L', "l", b"x\0"), member(b'x', "x", b"10 path=y\n"), good.clone(), end()]),
        ("two pax", vec![member(b'x', "x", b"10 path=y\n"), member(b'x', "x", b"10 path=y\n"), good.clone(), end()]),
        ("global size", vec![member(b'g', "x", b"9 size=1\n"), good.clone(), end()]),
        ("dangling", vec![member(b'L', "l", b"x\0"), end()]),
        ("NUL in a name", vec![member(b'L', "l", b"x\0y\0"), good.clone(), end()]),
    ] {
        assert!(read(&parts).is_err(), "{what}");
    }
    assert!(read(&[]).is_err());
    assert!(read(&[end()]).expect("empty").is_empty());
}

/// Found by tests/image_differential: GNU tar and bsdtar, or one of them and we, made different trees of these.
#[test]
fn cve_2025_62518_what_readers_disagree_about_is_refused() {
    let file = member(b'0', "a", b"hello");
    let changed = |change: &dyn Fn(&mut tar::Header)| {
        let mut h = tar::Header::from_byte_slice(&file[..512]).clone();
        change(&mut h);
        h.set_cksum();
        [h.as_bytes(), &file[512..]].concat()
    };
    let map = changed(&|h| h.as_gnu_mut().expect("gnu").sparse[0].offset[0] = b'1');
    let real = changed(&|h| h.as_gnu_mut().expect("gnu").realsize[0] = b'1');
    let wide = changed(&|h| h.as_old_mut().uid = [0x80, 1, 0, 0, 0, 0, 0, 0]);
    let mark = changed(&|h| h.as_mut_bytes()[262] = b'x');
    let holes = member(b'x', "x", b"22 GNU.sparse.size=10\n26 GNU.sparse.numblocks=1\n22 GNU.sparse.map=0,5\n");
    for (what, parts) in [
        ("a map in a plain header", vec![map, end()]),
        ("a real size in a plain header", vec![real, end()]),
        ("no name", vec![member(b'5', "", b""), end()]),
        ("an unknown mark", vec![mark, end()]),
        ("a long name without end", vec![member(b'L', "l", b"name"), file.clone(), end()]),
        ("an owner out of range, replaced", vec![member(b'x', "x", b"8 uid=1\n"), wide, end()]),
        ("holes in POSIX's form before a GNU header", vec![holes, file.clone(), end()]),
    ] {
        assert!(read(&parts).is_err(), "{what}");
    }
}

#[test]
fn cve_2017_14992_headers_are_bounded() {
    // Sizes that would be read into memory; the data is not even there.
    for kind in [b'x', b'g', b'L', b'K'] {
        let e = read(&[header(kind, "big", 8 << 30), vec![b'a'; 4096]]).expect_err("too large");
        assert!(e.to_string().contains("larger than"), "{e}");
    }
    let limits = Limits { entries: 10, ..Limits::default() };
    let many: Vec<Vec<u8>> = (0..11).map(|_| member(b'0', "a", b"")).chain([end()]).collect();
    assert!(read_with(&many, &limits).is_err());
}

#[test]
fn owners_beyond_32_bits_are_refused() {
    assert!(read(&[member(b'x', "x", b"18 uid=4294967295\n"), member(b'0', "a", b""), end()]).is_err());
    assert!(read(&[member(b'x', "x", b"18 gid=4294967296\n"), member(b'0', "a", b""), end()]).is_err());
    assert!(read(&[member(b'x', "x", b"18 uid=4294967294\n"), member(b'0', "a", b""), end()]).is_ok());
}

#[test]
fn gnu_holes() {
    let mut h = tar::Header::new_gnu();
    h.set_size(4);
    h.as_old_mut().name[0] = b's';
    h.as_old_mut().linkflag[0] = b'S';
    let gnu = h.as_gnu_mut().expect("gnu");
    gnu.set_real_size(5000);
    gnu.sparse[0].set_offset(4096);
    gnu.sparse[0].set_length(4);
    h.set_cksum();
    let mut data = b"data".to_vec();
    data.resize(512, 0);
    let got = read(&[h.as_bytes().to_vec(), data.clone(), end()]).expect("good");
    assert_eq!(got, [("s".to_string(), 5000, b"data".to_vec())]);
    h.as_gnu_mut().expect("gnu").sparse[0].set_offset(4999);
    h.set_cksum();
    assert!(read(&[h.as_bytes().to_vec(), data, end()]).is_err());
}

#[test]
fn random_bytes_never_panic() {
    use proptest::prelude::*;
    let base = [
        member(b'x', "x", b"11 path=pp\n20 GNU.sparse.major=1\n"),
        member(b'0', "a", b"hello"),
        member(b'S', "s", b""),
        end(),
    ]
    .concat();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) };
    proptest!(config, |(edits in proptest::collection::vec((0usize..4000, any::<u8>()), 1..20), fix in any::<bool>())| {
        let mut bytes = base.clone();
        for (at, value) in edits {
            let n = bytes.len();
            bytes[at % n] = value;
        }
        if fix {
            // Make checksums right, so that the fields behind them are reached.
            for block in bytes.chunks_exact_mut(512) {
                let sum: u32 = block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = read(&[bytes]);
    });
}
