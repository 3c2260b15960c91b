//! What the host offers.

use super::{Level, Report};
use crate::host::command::Host;
use crate::host::lsm::{self, AppArmor};
use crate::host::{cgroup, subids};
use std::path::{Path, PathBuf};

/// The oldest kernel that is supported.
const KERNEL: (u32, u32) = (6, 1);

/// Programs of others: name, what it is for, Debian package.
const PROGRAMS: [(&[&str], &str, &str); 3] = [
    (&["mmdebstrap", "debootstrap"], "building images with bootstrap:", "mmdebstrap"),
    (&["dnsmasq"], "DHCP and DNS of networks", "dnsmasq-base"),
    (&["nft"], "NAT and firewall rules of networks", "nftables"),
];

pub(super) fn check(report: &mut Report) {
    kernel(report);
    cgroups(report);
    namespaces(report);
    ids(report);
    filesystems(report);
    security_modules(report);
    programs(report);
}

fn kernel(report: &mut Report) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        report.ok("kernel", format!("Linux {release}"));
    } else {
        let message = format!("Linux {release} is older than {}.{}", KERNEL.0, KERNEL.1);
        report.add("kernel", Level::Error, message, "boot a newer kernel");
    }
}

fn cgroups(report: &mut Report) {
    let mount = match cgroup::mount_point() {
        Ok(mount) => mount,
        Err(e) => return report.add("cgroups", Level::Error, e.to_string(), e.hint_text().unwrap_or_default()),
    };
    let text = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let missing: Vec<&str> = ["cpu", "cpuset", "io", "memory", "pids"]
        .into_iter()
        .filter(|c| !text.split_whitespace().any(|t| t == *c))
        .collect();
    if missing.is_empty() {
        return report.ok("cgroups", format!("version 2 at {}", mount.display()));
    }
    report.add(
        "cgroups",
        Level::Warning,
        format!("version 2 at {} lacks {}: limits that need them are refused", mount.display(), missing.join(", ")),
        "boot with systemd.unified_cgroup_hierarchy=1",
    );
}

fn namespaces(report: &mut Report) {
    let missing: Vec<&str> = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
        .into_iter()
        .filter(|n| !Path::new("/proc/self/ns").join(n).exists())
        .collect();
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if !missing.is_empty() {
        report.add("namespaces", Level::Error, format!("missing: {}", missing.join(", ")), "boot another kernel");
    } else if most.trim() == "0" {
        let fix = "sysctl user.max_user_namespaces=15000";
        report.add("namespaces", Level::Error, "user namespaces are switched off", fix);
    } else {
        report.ok("namespaces", "all there");
    }
}

fn ids(report: &mut Report) {
    match subids::range() {
        Ok(r) => report.ok("id ranges", format!("{} ids from {}", r.size, r.base)),
        Err(e) => report.add("id ranges", Level::Error, e.to_string(), e.hint_text().unwrap_or_default()),
    }
}

fn filesystems(report: &mut Report) {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|l| l.trim_start_matches("nodev").trim() == "overlay") {
        return report.ok("overlayfs", "there");
    }
    let message = "the kernel does not list it: instances are full copies of their image";
    report.add("overlayfs", Level::Warning, message, "modprobe overlay");
}

fn security_modules(report: &mut Report) {
    if lsm::selinux_enforces() {
        let message = "enforcing: instances can't be started, this version does not label them";
        report.add("SELinux", Level::Error, message, "setenforce 0");
    }
    match lsm::apparmor() {
        AppArmor::Off => report.ok("AppArmor", "not enabled: instances have no profile"),
        AppArmor::Inherited => report.ok("AppArmor", "instances share the profile this program itself is confined by"),
        AppArmor::Managed => match lsm::apparmor::parser(&Host::default()) {
            Ok(_) => report.ok("AppArmor", "each instance has a profile of its own"),
            Err(e) => report.add(
                "AppArmor",
                Level::Warning,
                "enabled, and apparmor_parser is missing: instances can't be started",
                e.hint_text().unwrap_or_default().trim_start_matches("install it: "),
            ),
        },
    }
}

fn programs(report: &mut Report) {
    for (names, purpose, package) in PROGRAMS {
        match names.iter().find_map(|n| find(n)) {
            Some(path) => report.ok(names[0], format!("{} ({purpose})", path.display())),
            None => {
                let message = format!("not found, needed for {purpose}");
                report.add(names[0], Level::Warning, message, format!("apt-get install {package}"));
            }
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|p| p.is_file())
}
