//! The header of a virtual machine's disk. The first 8 bytes are the size of the file it stands in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::image::qcow2::{HEAD_MAX, judge};

const LARGEST: u64 = 1 << 40;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, head)) = bytes.split_first_chunk() else { return };
    let size = u64::from_le_bytes(*size).max(head.len() as u64);
    let head = &head[..head.len().min(HEAD_MAX)];
    let Ok(disk) = judge(head, size, LARGEST) else { return };
    let number = |at: usize| u64::from_be_bytes(*head[at..].first_chunk().expect("the header is there"));
    assert!(head.starts_with(b"QFI\xfb") && number(8) == 0 && number(32) >> 32 == 0);
    assert!(disk.size == number(24) && (1..=LARGEST).contains(&disk.size) && size > disk.cluster);
    // Data file, marked as corrupt, and what is not known.
    assert!(disk.version == 2 || number(72) & !0b1_1001 == 0);
    // Both tables end in the file.
    assert!(number(40) + (number(36) >> 32) * 8 <= size && number(48) + (number(56) >> 32) * disk.cluster <= size);
});
