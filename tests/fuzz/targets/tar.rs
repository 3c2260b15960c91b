//! The reader of archives: entries, their data and their names, from hostile bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::image::Limits;
use stapes::image::tarread::TarReader;
use stapes::image::unpack::clean_path;

/// Small, so that a bomb is an error and not a finding.
fn limits() -> Limits {
    Limits { entries: 1000, bytes: 1 << 30, ..Limits::default() }
}

fn read(bytes: &[u8]) {
    let limits = limits();
    let mut tar = TarReader::new(bytes, &limits);
    while let Ok(Some(entry)) = tar.next_entry() {
        let _ = entry.name();
        if let Ok(clean) = clean_path(&entry.path, limits.depth) {
            assert!(!clean.split(|b| *b == b'/').any(|part| part == b".." || part == b"."));
            assert!(!clean.starts_with(b"/") && !clean.contains(&0));
            assert_eq!(clean_path(&clean, limits.depth).ok(), Some(clean.clone()));
        }
        if let Some(segments) = &entry.segments {
            assert!(segments.iter().all(|s| s.offset + s.len <= entry.size));
        }
        let mut seen = 0;
        let done = tar.data(&mut |piece| {
            seen += piece.len() as u64;
            Ok(())
        });
        assert!(done.is_err() || entry.segments.is_some() || seen == entry.size);
    }
}

/// Sets every checksum right: without that hardly anything behind the first header is reached.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    for block in all.as_chunks_mut::<512>().0.iter_mut().filter(|b| b[0] != 0) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    }
    all
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&repaired(bytes));
});
