//! The CPUs of the host as its kernel shows them: which are online, which are isolated, which belong to which NUMA node.
//!
//! Called by `ops::cpus` whenever CPUs are given out. Source: the kernel's ABI/stable/sysfs-devices-system-cpu,
//! ABI/stable/sysfs-devices-node and cgroup-v2.rst.

use crate::base::idset;
use crate::error::{Context, Result};
use crate::model::cpus::{Host, Set};
use std::path::Path;

/// The host's CPUs for groups below the cgroup `parent`.
///
/// # Errors
/// The kernel does not say which CPUs are online.
pub fn read(parent: &Path) -> Result<Host> {
    read_below(Path::new("/sys/devices/system"), parent)
}

fn read_below(sysfs: &Path, parent: &Path) -> Result<Host> {
    // What our part of the tree may use; where the controller is not on for it, all that are online.
    let online = match set(&parent.join("cpuset.cpus.effective")) {
        Ok(set) if !set.is_empty() => set,
        _ => set(&sysfs.join("cpu/online")).context("Failed reading which CPUs are online")?,
    };
    let isolated = set(&sysfs.join("cpu/isolated")).unwrap_or_default();
    let mut host = Host { online, isolated, ..Host::default() };
    for node in set(&sysfs.join("node/online")).unwrap_or_default() {
        let cpus = set(&sysfs.join(format!("node/node{node}/cpulist"))).unwrap_or_default();
        host.nodes.insert(node, cpus);
    }
    Ok(host)
}

fn set(path: &Path) -> Result<Set> {
    match std::fs::read_to_string(path)?.trim() {
        "" => Ok(Set::new()),
        text => idset::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_shows() {
        let d = tempfile::tempdir().expect("tempdir");
        let write = |file: &str, text: &str| {
            let path = d.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        };
        write("cpu/online", "0-5,8\n");
        write("cpu/isolated", "\n");
        write("node/online", "0-1\n");
        write("node/node0/cpulist", "0-3\n");
        write("node/node1/cpulist", "4-5,8\n");
        let group = d.path().join("group");
        let host = read_below(d.path(), &group).expect("host");
        assert_eq!((idset::format(&host.online), host.isolated.len()), ("0-5,8".into(), 0));
        assert_eq!(idset::format(&host.nodes[&1]), "4-5,8");
        write("group/cpuset.cpus.effective", "1-2\n");
        write("cpu/isolated", "2\n");
        let host = read_below(d.path(), &group).expect("host");
        assert_eq!((idset::format(&host.online), idset::format(&host.isolated)), ("1-2".into(), "2".into()));
        assert!(!read(Path::new("/nonexistent")).expect("this host").online.is_empty());
    }
}
