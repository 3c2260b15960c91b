//! The reader of squashfs file systems: whatever is in the file, an archive that can be read comes of it, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::image::Limits;
use stapes::image::squashfs;
use stapes::image::tarread::TarReader;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

static FILE: OnceLock<File> = OnceLock::new();

fn file() -> &'static File {
    FILE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("stapes-fuzz-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("file");
        std::fs::remove_file(&path).expect("removed");
        file
    })
}

fuzz_target!(|bytes: &[u8]| {
    // Small, so that a bomb is an error and not a finding.
    let limits = Limits { entries: 1000, bytes: 1 << 30, ratio: 16, free_bytes: 1 << 20, ..Limits::default() };
    file().set_len(0).expect("emptied");
    file().write_all_at(bytes, 0).expect("written");
    let _ = squashfs::read(file(), &limits, &mut |_| Ok(()), |source| {
        let mut tar = TarReader::new(source, &limits);
        while let Some(entry) = tar.next_entry()? {
            let mut seen = 0;
            tar.data(&mut |piece| {
                seen += piece.len() as u64;
                Ok(())
            })?;
            assert!(entry.segments.is_some() || seen == entry.size);
        }
        Ok(())
    });
});
