//! Streams of subvolumes: in whatever pieces they come the commands are the same, and no name in them leads out. With the checksums
//! put right, so that there is more to see than that they are wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::storage::send_stream::{Command, Parser};
use std::path::{Component, Path};

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

/// With the right checksum of each command that is whole.
fn corrected(bytes: &[u8]) -> Vec<u8> {
    let (mut all, mut at) = (bytes.to_vec(), 17);
    while let Some(head) = all.get(at..at + 10) {
        let end = at + 10 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if end > all.len() {
            break;
        }
        all[at + 6..at + 10].fill(0);
        let right = sum(&all[at..end]).to_le_bytes();
        all[at + 6..at + 10].copy_from_slice(&right);
        at = end;
    }
    all
}

fn check(path: &Path) {
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
}

fn read(bytes: &[u8], step: usize) -> (Vec<String>, bool) {
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    for piece in bytes.chunks(step) {
        let fed = parser.feed(piece, &mut |command| {
            if let Command::Write { path, .. } | Command::Make { path, .. } | Command::Unlink { path } = command {
                check(path);
            }
            if let Command::Clone { path, from, .. } = command {
                [*path, from.path].map(check);
            }
            found.push(format!("{command:?}"));
            Ok(())
        });
        if fed.is_err() {
            return (found, false);
        }
    }
    let whole = parser.finish().is_ok();
    (found, whole)
}

fuzz_target!(|bytes: &[u8]| {
    let corrected = corrected(bytes);
    for bytes in [bytes, &corrected[..]] {
        assert_eq!(read(bytes, usize::MAX), read(bytes, 7));
    }
});
