//! Ids inside extended attributes: file capabilities and POSIX access lists.
//!
//! Used by the copy when owners change. Pure functions over the bytes that getxattr returns; what is not understood is
//! handed back unchanged. Sources: capabilities(7), include/uapi/linux/capability.h (vfs_cap_data, vfs_ns_cap_data),
//! include/uapi/linux/posix_acl_xattr.h.

use super::ids::Ids;
use std::ffi::CStr;

/// The attributes that have ids in them.
pub const ALL: [&CStr; 3] = [c"security.capability", c"system.posix_acl_access", c"system.posix_acl_default"];

const CAPABILITY: &[u8] = b"security.capability";
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

const REVISION_MASK: u32 = 0xFF00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const SIZE_2: usize = 20;
const SIZE_3: usize = 24;

const ACL_VERSION: u32 = 2;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// The value that attribute `name` must have after the change `ids`.
pub fn change(name: &[u8], value: Vec<u8>, ids: &Ids) -> Vec<u8> {
    match name {
        CAPABILITY => capability(value, ids),
        ACL_ACCESS | ACL_DEFAULT => acl(value, ids),
        _ => value,
    }
}

impl Ids {
    /// The value that the attribute `name` of a file must have after the change.
    pub fn attribute(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        change(name, value, self)
    }
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Revision 2 belongs to the root of the initial namespace; revision 3 names the owner of the namespace it is good in.
fn capability(mut value: Vec<u8>, ids: &Ids) -> Vec<u8> {
    let Some(magic) = le32(&value, 0) else { return value };
    let root = match (magic & REVISION_MASK, value.len()) {
        (REVISION_2, SIZE_2) => 0,
        (REVISION_3, SIZE_3) => le32(&value, SIZE_2).unwrap_or(0),
        _ => return value,
    };
    let root = ids.uid(root);
    value.truncate(SIZE_2);
    let revision = if root == 0 { REVISION_2 } else { REVISION_3 };
    value[..4].copy_from_slice(&(magic & !REVISION_MASK | revision).to_le_bytes());
    if root != 0 {
        value.extend_from_slice(&root.to_le_bytes());
    }
    value
}

fn acl(mut value: Vec<u8>, ids: &Ids) -> Vec<u8> {
    if le32(&value, 0) != Some(ACL_VERSION) {
        return value;
    }
    for entry in value[4..].chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = match tag {
            ACL_USER => ids.uid(id),
            ACL_GROUP => ids.gid(id),
            _ => continue,
        };
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::idmap::IdMap;

    fn ids() -> (Ids, Ids) {
        let (none, map) = (IdMap::default(), IdMap::simple(1_000_000, 65_536).expect("valid"));
        (Ids::change(&none, &map), Ids::change(&map, &none))
    }

    #[test]
    fn capabilities_gain_and_lose_their_root() {
        let (there, back) = ids();
        let mut plain = vec![1, 0, 0, 2];
        plain.extend_from_slice(&[0x00, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let shifted = change(CAPABILITY, plain.clone(), &there);
        assert_eq!(shifted.len(), 24);
        assert_eq!(&shifted[..4], [1, 0, 0, 3], "the effective bit stays");
        assert_eq!(le32(&shifted, 20), Some(1_000_000));
        assert_eq!(shifted[4..20], plain[4..20]);
        assert_eq!(change(CAPABILITY, shifted, &back), plain);
    }

    #[test]
    fn access_lists_change_named_users_and_groups_only() {
        let (there, back) = ids();
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (8, 6, 33), (16, 6, u32::MAX)] {
            list.extend_from_slice(&tag.to_le_bytes());
            list.extend_from_slice(&perm.to_le_bytes());
            list.extend_from_slice(&id.to_le_bytes());
        }
        let shifted = change(ACL_ACCESS, list.clone(), &there);
        assert_eq!(le32(&shifted, 4 + 8 + 4), Some(1_001_000));
        assert_eq!(le32(&shifted, 4 + 24 + 4), Some(1_000_033));
        assert_eq!(le32(&shifted, 8), Some(u32::MAX));
        assert_eq!(change(ACL_DEFAULT, shifted, &back), list);
    }

    #[test]
    fn damaged_values_pass_through() {
        let (there, _) = ids();
        for bad in [vec![], vec![0, 0, 0, 2], vec![2, 0, 0, 0, 2], vec![9; 24]] {
            assert_eq!(change(CAPABILITY, bad.clone(), &there), bad);
            assert_eq!(change(ACL_ACCESS, bad.clone(), &there), bad);
        }
    }
}
