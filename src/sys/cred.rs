//! Credentials of the calling thread.

use super::{Result, check};

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3` of capset(2).
pub(super) const CAP_VERSION: u32 = 0x2008_0522;

/// Runs `f` with the thread's file-system ids set to `uid`:`gid` and every permitted capability effective, then puts the
/// ids back. overlayfs keeps the credentials of the thread that creates it and works with them on the layers; when those
/// are id-mapped, the maker's file-system ids must be mapped ones (see overlayfs.rst, "Permission model").
///
/// # Errors
/// As setfsuid(2), capset(2); what `f` returns.
pub fn with_fs_ids<T>(uid: u32, gid: u32, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let saved = capget()?;
    set_fs_ids(uid, gid);
    let outcome = raise_all(saved).and_then(|()| f());
    set_fs_ids(0, 0);
    capset(saved)?;
    outcome
}

/// Whether the thread may change the policy of a security module (`CAP_MAC_ADMIN` of capabilities(7) is effective).
pub fn may_administer_mac() -> bool {
    const CAP_MAC_ADMIN: u32 = 33;
    capget().is_ok_and(|data| data[1].effective & (1 << (CAP_MAC_ADMIN - 32)) != 0)
}

fn raise_all(mut data: [CapData; 2]) -> Result<()> {
    for d in &mut data {
        d.effective = d.permitted;
    }
    capset(data)
}

fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: both calls take numbers only, act on this thread and cannot fail for a privileged caller.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

fn capget() -> Result<[CapData; 2]> {
    let header = CapHeader { version: CAP_VERSION, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 of the call fills two `CapData`.
    let ret = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    check("capget", ret)?;
    Ok(data)
}

fn capset(data: [CapData; 2]) -> Result<()> {
    let header = CapHeader { version: CAP_VERSION, pid: 0 };
    // SAFETY: version 3 of the call reads two `CapData`.
    let ret = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check("capset", ret).map(drop)
}
