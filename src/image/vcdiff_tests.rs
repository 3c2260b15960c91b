//! Differences made by hand; those of xdelta3 are in tests/image_differential.

use super::codes::{Step, steps};
use super::*;
use std::io::{Seek, SeekFrom};

const OLD: &[u8] = b"the quick brown fox jumps over the lazy dog";

fn file(data: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(data).expect("written");
    file.seek(SeekFrom::Start(0)).expect("seek");
    file
}

/// What `delta` makes of `OLD`, announced with `size` bytes.
fn made(delta: &[u8], size: u64) -> Result<Vec<u8>> {
    let new = file(b"");
    let mut last = 0;
    let done = apply(&file(OLD), &mut &delta[..], &new, size, &mut |n| {
        last = n;
        Ok(())
    });
    let mut out = Vec::new();
    (&new).seek(SeekFrom::Start(0)).expect("seek");
    (&new).read_to_end(&mut out).expect("read");
    assert!(out.len() as u64 <= size, "{} of {size} bytes", out.len());
    done?;
    assert_eq!(last, size);
    Ok(out)
}

/// A window without a checksum; numbers are below 128.
fn window(base: &[u8], size: u8, data: &[u8], steps: &[u8], addresses: &[u8]) -> Vec<u8> {
    let lengths = [data, steps, addresses].map(|section| section.len() as u8);
    let body = [&[size, 0][..], &lengths, data, steps, addresses].concat();
    [base, &[body.len() as u8], &body].concat()
}

fn delta(windows: &[Vec<u8>]) -> Vec<u8> {
    [&MAGIC[..], &[0], &windows.concat()].concat()
}

fn why(delta: &[u8], size: u64) -> String {
    made(delta, size).expect_err("refused").to_string()
}

#[test]
fn the_table_is_that_of_the_rfc() {
    assert_eq!(steps(0), ((Step::Run, 0), None));
    assert_eq!(steps(1), ((Step::Add, 0), None));
    assert_eq!(steps(18), ((Step::Add, 17), None));
    assert_eq!(steps(19), ((Step::Copy(0), 0), None));
    assert_eq!(steps(20), ((Step::Copy(0), 4), None));
    assert_eq!(steps(34), ((Step::Copy(0), 18), None));
    assert_eq!(steps(162), ((Step::Copy(8), 18), None));
    assert_eq!(steps(163), ((Step::Add, 1), Some((Step::Copy(0), 4))));
    assert_eq!(steps(166), ((Step::Add, 2), Some((Step::Copy(0), 4))));
    assert_eq!(steps(234), ((Step::Add, 4), Some((Step::Copy(5), 6))));
    assert_eq!(steps(235), ((Step::Add, 1), Some((Step::Copy(6), 4))));
    assert_eq!(steps(246), ((Step::Add, 4), Some((Step::Copy(8), 4))));
    assert_eq!(steps(247), ((Step::Copy(0), 4), Some((Step::Add, 1))));
    assert_eq!(steps(255), ((Step::Copy(8), 4), Some((Step::Add, 1))));
}

#[test]
fn every_step_and_mode() {
    // Added, repeated.
    assert_eq!(made(&delta(&[window(&[0], 7, b"abcx", &[4, 0, 4], &[])]), 7).expect("good"), b"abcxxxx");
    // Copied from the piece "quick brown": counted from its start, back from here, near, and the same.
    let copies = window(&[OF_OLD, 11, 4], 16, b"", &[20, 36, 52, 116], &[0, 9, 1, 6]);
    assert_eq!(made(&delta(&[copies]), 16).expect("good"), b"quicbrowuickbrow");
    // Over the end of the piece, and over what it makes.
    let over = window(&[OF_OLD, 5, 4], 9, b"", &[19, 9], &[2]);
    assert_eq!(made(&delta(&[over]), 9).expect("good"), b"ickickick");
    // Two steps in one code; from what an earlier window made.
    let first = window(&[0], 5, b"hello", &[6], &[]);
    let second = window(&[OF_NEW, 5, 0], 10, b"!?", &[163, 247], &[0, 1]);
    assert_eq!(made(&delta(&[first, second]), 15).expect("good"), b"hello!hellello?");
    // A text of the writer's; a checksum; nothing at all.
    let with_text = [&MAGIC[..], &[TEXT, 3], b"a//", &window(&[0], 1, b"a", &[2], &[])].concat();
    assert_eq!(made(&with_text, 1).expect("good"), b"a");
    let sum = adler32(b"a").to_be_bytes();
    let with_sum = [&MAGIC[..], &[0, CHECKSUM, 11, 1, 0, 1, 1, 0], &sum, b"a", &[2]].concat();
    assert_eq!(made(&with_sum, 1).expect("good"), b"a");
    assert_eq!(made(&delta(&[]), 0).expect("good"), b"");
    assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    assert_eq!(adler32(&[0xff; 100_000]), 0x149a_302c);
}

#[test]
fn what_cannot_be_is_refused() {
    let good = delta(&[window(&[OF_OLD, 11, 4], 16, b"", &[20, 36, 52, 116], &[0, 9, 1, 6])]);
    for length in 0..good.len() {
        made(&good[..length], 16).expect_err("cut short");
    }
    assert!(why(&good, 15).contains("more than was announced"));
    assert!(why(&good, 17).contains("less than was announced"));
    let head = |kind: &[u8]| why(&[&MAGIC[..], kind].concat(), 1);
    assert!(head(&[CODE_TABLE, 0]).contains("code table"));
    assert!(head(&[8, 0]).contains("header"));
    assert!(head(&[PACKED, 1]).contains("djw") && head(&[PACKED, 16]).contains("fgk"));
    assert!(head(&[PACKED, 7]).contains("unknown"));
    assert!(head(&[0, OF_OLD | OF_NEW]).contains("kind") && head(&[0, 8]).contains("kind"));
    let one = |base: &[u8], data: &[u8], steps: &[u8], addresses: &[u8]| {
        why(&delta(&[window(base, 4, data, steps, addresses)]), 4)
    };
    // Pieces outside of the files.
    let length = OLD.len() as u8;
    for base in [[OF_OLD, length + 1, 0], [OF_OLD, 1, length], [OF_OLD, length, 1], [OF_NEW, 1, 0]] {
        assert!(one(&base, b"", &[20], &[0]).contains("outside"), "{base:?}");
    }
    let far = [OF_OLD, 1, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(one(&far, b"", &[20], &[0]).contains("outside"));
    assert!(
        one(&[OF_OLD, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], b"", &[20], &[0])
            .contains("number")
    );
    // Addresses that are not there yet, are before the start, or are missing.
    for (steps, addresses) in [(20, &[8][..]), (36, &[9]), (36, &[0]), (52, &[8])] {
        assert!(one(&[OF_OLD, 8, 0], b"", &[steps], addresses).contains("address"), "{steps} {addresses:?}");
    }
    assert!(one(&[OF_OLD, 8, 0], b"", &[20], &[]).contains("short"));
    assert!(one(&[0], b"", &[20], &[0]).contains("address"));
    // Too much and too little of everything.
    assert!(one(&[0], b"abcde", &[6], &[]).contains("window's size"));
    assert!(one(&[0], b"abc", &[4], &[]).contains("window's size"));
    assert!(one(&[0], b"abcd", &[6], &[]).contains("window's size"));
    assert!(one(&[0], b"abc", &[5], &[]).contains("data is missing"));
    assert!(one(&[0], b"abcde", &[5], &[]).contains("window's size"));
    assert!(one(&[0], b"abcd", &[5], &[0]).contains("window's size"));
    assert!(one(&[0], b"", &[0, 4], &[]).contains("data is missing"));
    assert!(one(&[0], b"x", &[0], &[]).contains("short"));
    assert!(one(&[0], &[b'x'; 100], &[5], &[]).contains("section's size"));
    // Packed, but nothing was said of that; a length that is none.
    assert!(why(&[&MAGIC[..], &[0, 0, 7, 1, 1, 1, 1, 0, b'a', 2]].concat(), 1).contains("packing"));
    assert!(why(&[&MAGIC[..], &[0, 0, 8, 1, 0, 1, 1, 0, b'a', 2, 0]].concat(), 1).contains("window's length"));
    assert!(
        why(&[&MAGIC[..], &[0, CHECKSUM, 11, 1, 0, 1, 1, 0, 1, 2, 3, 4, b'a', 2]].concat(), 1).contains("checksum")
    );
    // Packed sections that are none, or that promise too much.
    for packed in [&[1, 0][..], &[1], &[0x8f, 0xff, 0x7f, 0], &[4, 0xfd, b'7', b'z', b'X']] {
        let body = [&[1, 1, packed.len() as u8, 1, 0][..], packed, &[2]].concat();
        let all = [&MAGIC[..], &[PACKED, 2, 0, body.len() as u8], &body].concat();
        assert!(why(&all, 1).contains("section"), "{packed:?}");
    }
}

#[test]
fn the_caller_can_end_it() {
    let two = delta(&[window(&[0], 1, b"a", &[2], &[]), window(&[0], 1, b"b", &[2], &[])]);
    let new = file(b"");
    let e = apply(&file(OLD), &mut &two[..], &new, 2, &mut |_| Err(Error::invalid("enough"))).expect_err("ended");
    assert_eq!((e.to_string(), new.metadata().expect("there").len()), ("enough".to_string(), 1));
}
