//! Differences between images: no more comes of one than was announced, and an error or all of it. The first two bytes announce.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::image::vcdiff::apply;
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::OnceLock;

/// Bytes of the old file.
const SIZE: u32 = 1 << 15;

static FILES: OnceLock<[File; 2]> = OnceLock::new();

/// The old file, whose content is known, and the new one.
fn files() -> &'static [File; 2] {
    FILES.get_or_init(|| {
        ["old", "new"].map(|name| {
            let path = std::env::temp_dir().join(format!("stapes-fuzz-{name}-{}", std::process::id()));
            let mut file = File::options().read(true).write(true).create_new(true).open(&path).expect("file");
            std::fs::remove_file(&path).expect("removed");
            if name == "old" {
                let data: Vec<u8> = (0..SIZE).map(|n| (n * n >> 3) as u8).collect();
                file.write_all(&data).expect("written");
            }
            file
        })
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, delta)) = bytes.split_first_chunk() else { return };
    let size = u64::from(u16::from_le_bytes(*size));
    let [old, new] = files();
    new.set_len(0).expect("emptied");
    (&*new).rewind().expect("rewound");
    let mut last = 0;
    let done = apply(old, &mut &*delta, new, size, &mut |n| {
        assert!(n >= last);
        last = n;
        Ok(())
    });
    let made = new.metadata().expect("there").len();
    assert!(made <= size && made >= last && (done.is_err() || made == size));
});
