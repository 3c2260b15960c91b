//! The user that an image's process runs as: names and groups from the image's own `/etc/passwd` and `/etc/group`.

use crate::base::user::{Part, UserSpec, parse_id};
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Links};
use std::os::fd::BorrowedFd;

/// Largest of the two files that is read, bytes.
const FILE_MAX: u64 = 1 << 20;
/// Supplementary groups (`NGROUPS_MAX` is more; no image has as many).
const GROUPS_MAX: usize = 1000;

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups: those with the user in them, unless the image names a group.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

/// Finds `user[:group]` in the tree; root if it is empty.
///
/// # Errors
/// Invalid: there is no such user or group, or the text can be read in two ways.
pub fn find(rootfs: BorrowedFd<'_>, spec: &str) -> Result<User> {
    let file = |name: &str| -> Result<String> {
        match path::read_limited(rootfs, name.as_ref(), FILE_MAX, Links::InRoot) {
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(String::new()),
            other => Ok(String::from_utf8_lossy(&other?).into_owned()),
        }
    };
    let fail = || format!("Failed finding the user {spec:?}");
    choose(&file("etc/passwd").with_context(fail)?, &file("etc/group").with_context(fail)?, spec)
}

fn choose(passwd: &str, group: &str, spec: &str) -> Result<User> {
    let spec = UserSpec::parse(if spec.is_empty() { "0" } else { spec })?;
    let known = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        Some((name, parse_id(uid).ok()?, parse_id(gid).ok()?, fields.nth(1).unwrap_or_default()))
    });
    let mut known = known.filter(|(name, uid, ..)| match &spec.user {
        Part::Id(id) => uid == id,
        Part::Name(wanted) => name == wanted,
    });
    let (name, uid, own_gid, home) = match (known.next(), &spec.user) {
        (Some((name, uid, gid, home)), _) => (Some(name), uid, gid, home),
        (None, Part::Id(id)) => (None, *id, 0, ""),
        (None, Part::Name(name)) => return Err(Error::invalid(format!("Bad image: it has no user {name:?}"))),
    };
    let all = || {
        group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, parse_id(fields.nth(1)?).ok()?, fields.next().unwrap_or_default()))
        })
    };
    let (gid, groups) = match &spec.group {
        Some(Part::Id(gid)) => (*gid, Vec::new()),
        Some(Part::Name(wanted)) => match all().find(|(name, ..)| name == wanted) {
            Some((_, gid, _)) => (gid, Vec::new()),
            None => return Err(Error::invalid(format!("Bad image: it has no group {wanted:?}"))),
        },
        None => {
            let is_in = |members: &str| members.split(',').any(|member| Some(member) == name);
            (own_gid, all().filter(|(_, _, m)| is_in(m)).map(|(_, gid, _)| gid).take(GROUPS_MAX).collect())
        }
    };
    Ok(User { uid, gid, groups, home: if home.starts_with('/') { home.to_string() } else { "/".to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbad line\napp:x:1000:1001::/home/app:\n:x:7:7::/:\ntwin:x:1000:9::/t:\n";
    const GROUP: &str = "root:x:0:\nbin:x:1:root,app\napp:x:1001:\nextra:x:55:x,app\n";

    fn show(spec: &str) -> String {
        choose(PASSWD, GROUP, spec)
            .map_or_else(|e| e.to_string(), |u| format!("{} {} {:?} {}", u.uid, u.gid, u.groups, u.home))
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(show(""), "0 0 [1] /root");
        assert_eq!(show("app"), "1000 1001 [1, 55] /home/app");
        assert_eq!(show("1000"), "1000 1001 [1, 55] /home/app");
        assert_eq!(show("app:extra"), "1000 55 [] /home/app");
        assert_eq!(show("5:6"), "5 6 [] /");
        assert_eq!(show("5"), "5 0 [] /");
        assert_eq!(show("nobody"), "Bad image: it has no user \"nobody\"");
        assert_eq!(show("app:none"), "Bad image: it has no group \"none\"");
    }

    #[test]
    fn cve_2026_30892_in_images() {
        for bad in ["0000", "+1", " 1", "4294967295", "-1", "1:", ":1", "1name"] {
            assert!(choose(PASSWD, GROUP, bad).is_err(), "{bad}");
        }
    }
}
