//! Writing out while there is more to come (sync_file_range(2)), so that the disk is not idle until somebody waits for all.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Begins to write out `length` bytes from `offset` of a file; 0 for all that follow. Only an advice: that they are written is
/// fsync(2)'s or syncfs(2)'s to say.
pub fn begin(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: no memory is passed, and the descriptor is borrowed for as long as the call lasts.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
