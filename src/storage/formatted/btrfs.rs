//! File systems btrfs on a block device of their own: what their superblock says, and the identity that a copy of one needs
//! before it can be mounted beside it.
//!
//! Used by the room above. The kernel knows a btrfs by its identity, whatever device it is on. So each device has one that is
//! made of the device's own and stays with it; what differs is changed before it is mounted (btrfstune(8), `-M`).

use super::read;
use crate::error::{Context, Result};
use crate::host::command::{Cmd, Host, Program, Runner};
use sha2::{Digest, Sha256};
use std::path::Path;
use uuid::Uuid;

pub(super) const MKFS: Program = Program { name: "mkfs.btrfs", package: "btrfs-progs" };
const TUNE: Program = Program { name: "btrfstune", package: "btrfs-progs" };
const BTRFS: Program = Program { name: "btrfs", package: "btrfs-progs" };

/// Where the superblock is on the device, and what is where in it (the kernel's `struct btrfs_super_block`).
const SUPER: u64 = 64 << 10;
const FSID: usize = 0x20;
const MAGIC: usize = 0x40;
const LOG_ROOT: usize = 0x60;
/// `dev_item.total_bytes`.
const DEVICE_SIZE: usize = 0xc9 + 8;

/// The kernel gives it no size that is less, be it made smaller or larger; bytes.
pub(super) const LEAST: u64 = 256 << 20;

/// What a superblock says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Super {
    identity: Uuid,
    /// What was written and is not yet at its place.
    log: u64,
    /// How much of the device it uses, bytes.
    pub size: u64,
}

impl Super {
    fn parse(block: &[u8; 512]) -> Option<Self> {
        let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap_or_default());
        let identity = Uuid::from_slice(&block[FSID..FSID + 16]).ok()?;
        block[MAGIC..].starts_with(b"_BHRfS_M").then(|| Self { identity, log: word(LOG_ROOT), size: word(DEVICE_SIZE) })
    }

    /// That of a device; None: it holds no btrfs.
    pub fn of(device: &Path) -> Result<Option<Self>> {
        let mut block = [0u8; 512];
        read(device, SUPER, &mut block)?;
        Ok(Self::parse(&block))
    }
}

/// The identity of the file system on a device with this identity.
fn identity(device: &str) -> Uuid {
    let digest = Sha256::digest(device.as_bytes());
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// Gives the file system on the device, which is not mounted, the identity that goes with the device's own, `of`.
///
/// What a copy holds in its log goes: it was made of what had just been synchronised, or frozen, so nothing older than that is
/// lost; the program takes the blocks of the log for free ones.
///
/// # Errors
/// It holds none; the programs are missing or refuse.
pub(super) fn identify(device: &Path, of: &str) -> Result<()> {
    let (Some(found), wanted) = (Super::of(device)?, identity(of)) else { return Ok(()) };
    if found.identity == wanted {
        return Ok(());
    }
    if found.log != 0 {
        Host::default().run(Cmd::new(BTRFS).args(["rescue", "zero-log", "--"]).arg(device))?;
    }
    let cmd = Cmd::new(TUNE).args(["-f", "-M", &wanted.hyphenated().to_string(), "--"]).arg(device);
    let done = Host::default().run(cmd).map(drop);
    done.with_context(|| format!("Failed giving \"{}\" an identity of its own", device.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_superblock_says() {
        let mut block = [0u8; 512];
        assert_eq!(Super::parse(&block), None);
        block[MAGIC..MAGIC + 8].copy_from_slice(b"_BHRfS_M");
        block[FSID] = 0xab;
        block[LOG_ROOT + 1] = 1;
        block[DEVICE_SIZE + 3] = 0x20;
        let found = Super::parse(&block).expect("one");
        assert_eq!((found.log, found.size, found.identity.as_bytes()[0]), (256, 512 << 20, 0xab));
    }

    #[test]
    fn a_device_has_one_identity() {
        assert_eq!(identity("a"), identity("a"));
        assert_ne!(identity("a"), identity("b"));
        assert_eq!(identity("a").get_version_num(), 4);
    }
}
