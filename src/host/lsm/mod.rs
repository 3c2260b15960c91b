//! Security modules of the kernel: which of them confines what we start.
//!
//! AppArmor ([`apparmor`]): instances get profiles of their own where we may load policy. Where we ourselves run inside a
//! container that may not, or has no program for it, whatever confines us confines what we start. SELinux: this version makes
//! no labels. Everything here is asked once per process; on a host without either that is one failed open(2) each.

pub mod apparmor;

use crate::host::command::Host;
use crate::sys::cred;
use std::path::Path;
use std::sync::OnceLock;

/// What AppArmor is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppArmor {
    /// The kernel does not have it enabled.
    Off,
    /// We run inside something confined whose policy is not ours: what we start inherits it.
    Inherited,
    /// We load profiles; an instance must not start without its own.
    Managed,
}

/// AppArmor on this machine.
pub fn apparmor() -> AppArmor {
    static FOUND: OnceLock<AppArmor> = OnceLock::new();
    let usable = || apparmor::parser(&Host::default()).is_ok() && apparmor::may_load();
    *FOUND.get_or_init(|| detect(Path::new("/"), cred::may_administer_mac, usable))
}

/// True if SELinux enforces its policy.
pub fn selinux_enforces() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| first_byte(Path::new("/sys/fs/selinux/enforce")) == Some(b'1'))
}

fn first_byte(path: &Path) -> Option<u8> {
    std::fs::read(path).ok()?.first().copied()
}

/// `admin`: whether we have `CAP_MAC_ADMIN`; `usable`: whether profiles can be made and loaded.
fn detect(root: &Path, admin: impl Fn() -> bool, usable: impl Fn() -> bool) -> AppArmor {
    if first_byte(&root.join("sys/module/apparmor/parameters/enabled")) != Some(b'Y') {
        return AppArmor::Off;
    }
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    // A policy namespace that was made for the container we are in is ours to fill. The profile it is stacked upon holds
    // all the same.
    if apparmor::level(root) > 0 {
        return if admin() && usable() { AppArmor::Managed } else { AppArmor::Inherited };
    }
    // user_namespaces(7): the first one maps everything onto itself. In any other the host's policy is out of reach.
    if !read("proc/self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]) {
        return AppArmor::Inherited;
    }
    let label = read("proc/self/attr/apparmor/current");
    let confined = !label.is_empty() && label.trim_end() != "unconfined";
    // Who is neither confined nor allowed to load policy finds out when it fails: never by starting without.
    if confined && !admin() { AppArmor::Inherited } else { AppArmor::Managed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)], admin: bool) -> AppArmor {
        machine_with(files, admin, false)
    }

    fn machine_with(files: &[(&str, &str)], admin: bool, usable: bool) -> AppArmor {
        let root = tempfile::tempdir().expect("tempdir");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        }
        detect(root.path(), || admin, || usable)
    }

    const ON: (&str, &str) = ("sys/module/apparmor/parameters/enabled", "Y\n");
    const FIRST: (&str, &str) = ("proc/self/uid_map", "         0          0 4294967295\n");
    const INNER: (&str, &str) = ("proc/self/uid_map", "         0    1000000      65536\n");
    const FREE: (&str, &str) = ("proc/self/attr/apparmor/current", "unconfined\n");
    const BOUND: (&str, &str) = ("proc/self/attr/apparmor/current", "stapes-default_outer (enforce)\n");

    #[test]
    fn off_where_the_kernel_says_so() {
        assert_eq!(machine(&[], true), AppArmor::Off);
        assert_eq!(machine(&[("sys/module/apparmor/parameters/enabled", "N\n"), FIRST, FREE], true), AppArmor::Off);
    }

    #[test]
    fn a_host_must_have_profiles() {
        assert_eq!(machine(&[ON, FIRST, FREE], true), AppArmor::Managed);
        assert_eq!(machine(&[ON, FIRST, FREE], false), AppArmor::Managed, "it fails later, loudly");
        assert_eq!(machine(&[ON, FIRST, BOUND], true), AppArmor::Managed, "a confined unit of the host");
        assert_eq!(machine(&[ON, FIRST], true), AppArmor::Managed, "a label that cannot be read excuses nothing");
    }

    #[test]
    fn inside_a_container_the_outer_profile_holds() {
        assert_eq!(machine(&[ON, FIRST, BOUND], false), AppArmor::Inherited, "privileged");
        assert_eq!(machine(&[ON, INNER, BOUND], true), AppArmor::Inherited);
        let none = ("sys/kernel/security/apparmor/.ns_level", "0\n");
        let own = ("sys/kernel/security/apparmor/.ns_level", "1\n");
        assert_eq!(machine_with(&[ON, INNER, FREE, none], true, true), AppArmor::Inherited);
        assert_eq!(machine_with(&[ON, FIRST, FREE, none], true, false), AppArmor::Managed, "a host is never excused");
        for ids in [FIRST, INNER] {
            assert_eq!(
                machine_with(&[ON, ids, FREE, own], true, true),
                AppArmor::Managed,
                "a policy namespace of its own"
            );
            assert_eq!(machine_with(&[ON, ids, FREE, own], true, false), AppArmor::Inherited, "no compiler there");
            assert_eq!(machine_with(&[ON, ids, FREE, own], false, true), AppArmor::Inherited, "not allowed");
        }
    }
}
