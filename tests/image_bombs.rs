//! Decompression bombs (CVE-2017-14992, CVE-2026-47262, CVE-2026-41648): a few kilobytes that would fill the disk end in an error, with
//! little memory used and little written. One test, so that the memory of this process is that of the imports.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write files, start programs and name what they skip"
)]

mod image_common;

use image_common::Image;
use stapes::error::Kind;
use std::io::{Read, Write};

/// A tar header for a huge file of zeros, then zeros without end as far as `len`.
fn endless(len: u64) -> impl Read {
    let mut h = tar::Header::new_gnu();
    h.set_path("rootfs/zeros").expect("path");
    h.set_size(1 << 50);
    h.set_mode(0o644);
    h.set_uid(0);
    h.set_gid(0);
    h.set_mtime(0);
    h.set_cksum();
    std::io::Cursor::new(h.as_bytes().to_vec()).chain(std::io::repeat(0).take(len))
}

/// Peak memory of this process, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("number") * 1024
}

fn written(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::read_dir(dir)
        .expect("list")
        .map(|e| {
            let e = e.expect("entry");
            let m = e.metadata().expect("stat");
            if m.is_dir() { written(&e.path()) } else { m.blocks() * 512 }
        })
        .sum()
}

#[test]
fn cve_2017_14992_bombs_end_early_with_little_memory() {
    const LEN: u64 = 40 << 20;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut endless(LEN), &mut gz).expect("gzip");
    let gz = gz.finish().expect("gzip");
    // A bomb in a bomb packs smaller still; only the outer one is opened.
    let mut gzgz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzgz.write_all(&gz).expect("gzip");
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    std::io::copy(&mut endless(LEN), &mut xz).expect("xz");
    let mut zst = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("zstd");
    std::io::copy(&mut endless(LEN), &mut zst).expect("zstd");
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::copy(&mut endless(LEN), &mut lz4).expect("lz4");
    let bombs = [
        ("gz", gz),
        ("gz in gz", gzgz.finish().expect("gzip")),
        ("xz", xz.finish().expect("xz")),
        ("zst", zst.finish().expect("zstd")),
        ("lz4", lz4.finish().expect("lz4")),
        ("holes", holes()),
        ("pax", pax()),
    ];
    let before = peak();
    for (what, bytes) in bombs {
        let mut image = Image::new();
        // Smaller than the default, for a quick test; the ratio stays.
        image.limits.free_bytes = 4 << 20;
        let len = bytes.len();
        let e = image.unified_bytes(bytes).expect_err(what);
        assert_eq!(e.kind(), Kind::Invalid, "{what}: {e}");
        let on_disk = written(image.path());
        assert!(on_disk < (6 << 20) + 300 * len as u64, "{what}: {on_disk} bytes from {len}");
    }
    let used = peak() - before;
    assert!(used < 64 << 20, "{used} bytes of memory");
}

/// A file that is one hole of a petabyte: costs nothing now, but whoever copies it.
fn holes() -> Vec<u8> {
    let mut h = tar::Header::new_gnu();
    h.set_path("rootfs/hole").expect("path");
    h.set_size(0);
    h.set_mode(0o644);
    h.set_uid(0);
    h.set_gid(0);
    h.set_mtime(0);
    h.set_entry_type(tar::EntryType::GNUSparse);
    h.as_gnu_mut().expect("gnu").set_real_size(1 << 50);
    h.set_cksum();
    let mut all = h.as_bytes().to_vec();
    all.resize(4096, 0);
    image_common::gzip(&all)
}

/// An extended header that would be gigabytes of memory.
fn pax() -> Vec<u8> {
    let mut h = tar::Header::new_ustar();
    h.set_path("pax").expect("path");
    h.set_size(7 << 30);
    h.set_mode(0o644);
    h.set_uid(0);
    h.set_gid(0);
    h.set_mtime(0);
    h.set_entry_type(tar::EntryType::XHeader);
    h.set_cksum();
    let mut all = h.as_bytes().to_vec();
    all.resize(1 << 20, b'a');
    image_common::gzip(&all)
}
