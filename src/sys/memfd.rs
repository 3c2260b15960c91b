//! Sealed memory files: data handed to another process that nobody can change any more (memfd_create(2)).

use super::{Result, SysError, from_rustix};
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A sealed memory file with `data`, at offset 0, close-on-exec.
///
/// # Errors
/// As memfd_create(2), write(2).
pub fn sealed(name: &str, data: &[u8]) -> Result<OwnedFd> {
    let fd = empty(name)?;
    seal(fd.as_fd(), data)?;
    Ok(fd)
}

/// An empty memory file, close-on-exec, that is to be filled and sealed later.
///
/// # Errors
/// As memfd_create(2).
pub fn empty(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
    match rustix::fs::memfd_create(name, flags) {
        // Before Linux 6.3.
        Err(rustix::io::Errno::INVAL) => {
            from_rustix("memfd_create", rustix::fs::memfd_create(name, flags - MemfdFlags::NOEXEC_SEAL))
        }
        other => from_rustix("memfd_create", other),
    }
}

/// Fills the memory file `fd` with `data` and seals it; it is at offset 0 then.
///
/// # Errors
/// As write(2), fcntl(2).
pub fn seal(fd: BorrowedFd<'_>, data: &[u8]) -> Result<()> {
    let io = |e: std::io::Error| SysError { call: "write", errno: e.raw_os_error().unwrap_or(libc::EIO) };
    let mut file = File::from(fd.try_clone_to_owned().map_err(io)?);
    file.write_all(data).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    from_rustix("fcntl", rustix::fs::fcntl_add_seals(&file, SEALS))
}

/// Reads a sealed memory file; refuses one that is not sealed or larger than `max` bytes.
///
/// # Errors
/// EPERM if a seal is missing, EFBIG if too large.
pub fn read_sealed(fd: OwnedFd, max: u64) -> Result<Vec<u8>> {
    let seals = from_rustix("fcntl", rustix::fs::fcntl_get_seals(fd.as_fd()))?;
    if !seals.contains(SEALS) {
        return Err(SysError { call: "memfd", errno: libc::EPERM });
    }
    let mut file = File::from(fd);
    let mut data = Vec::new();
    let io = |e: std::io::Error| SysError { call: "read", errno: e.raw_os_error().unwrap_or(libc::EIO) };
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    Read::by_ref(&mut file).take(max + 1).read_to_end(&mut data).map_err(io)?;
    if data.len() as u64 > max {
        return Err(SysError { call: "memfd", errno: libc::EFBIG });
    }
    Ok(data)
}
