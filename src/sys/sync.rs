//! sync_file_range(2), which neither `nix` nor `rustix` wrap. Called by `store` before it syncs several files at once.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Starts writing the file's dirty pages and returns at once; errors are those of the fsync(2) that follows, which this does
/// not replace. Of several files started before the first is synced, the later ones find most of their work done: on ext4
/// their blocks are allocated in the same transaction of the file system's journal.
pub fn begin_writeback(file: BorrowedFd<'_>) {
    // SAFETY: numbers only. A length of 0 stands for the rest of the file.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
