//! Tests of the profile texts: golden texts, and the globs against a list of paths.

use super::*;
use regex_lite::Regex;

fn text(privileged: bool, nesting: bool, raw: &str) -> String {
    render(&Profile { name: "stapes-default_c1", privileged, nesting, raw, ..Profile::default() })
}

fn count(text: &str, line: &str) -> usize {
    text.lines().filter(|l| l.trim() == line).count()
}

#[test]
fn an_unprivileged_profile() {
    let plain = text(false, false, "");
    let golden = include_str!("apparmor_tests/plain.txt");
    assert_eq!(plain, golden, "\n{plain}");
}

#[test]
fn a_privileged_profile_confines_mounts() {
    let privileged = text(true, false, "");
    let golden = include_str!("apparmor_tests/privileged.txt");
    assert_eq!(privileged, golden, "\n{privileged}");
    assert_eq!(count(&privileged, "mount,") + count(&privileged, "pivot_root,"), 0);
}

#[test]
fn nesting_frees_mounts_and_signals() {
    for privileged in [false, true] {
        let nesting = text(privileged, true, "");
        for rule in ["mount,", "pivot_root,", "ptrace,", "signal,"] {
            assert_eq!(count(&nesting, rule), 1, "{rule} in {nesting}");
        }
    }
    assert_eq!(count(&text(false, false, ""), "ptrace,"), 0);
}

#[test]
fn a_namespace_opens_apparmors_files_and_nothing_else() {
    let globs = |text: &str| -> Vec<String> {
        text.lines().filter_map(|l| l.trim().strip_prefix("deny ")?.strip_suffix(" w,").map(str::to_string)).collect()
    };
    let closed = globs(&text(false, false, ""));
    let open = globs(&render(&Profile { name: "x", namespace: true, ..Profile::default() }));
    let denied = |globs: &[String], path: &str| globs.iter().any(|g| matches(g, path));
    for path in ["/sys/kernel/security/apparmor/.replace", "/sys/kernel/security/apparmor/policy/namespaces/x"] {
        assert!(denied(&closed, path) && !denied(&open, path), "{path}");
    }
    for path in [
        "/sys/kernel/security/apparmors",
        "/sys/kernel/security/app",
        "/sys/kernel/security/ima/policy",
        "/sys/kernel/securityfs",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/s",
        "/sys/kern",
        "/sys/module/apparmor/parameters/mode",
    ] {
        assert!(denied(&closed, path) && denied(&open, path), "{path}");
    }
}

#[test]
fn the_users_own_rules_come_last_and_inside() {
    let raw = text(false, false, "deny /etc/secret r,\n# a remark");
    assert!(raw.ends_with("  deny /etc/secret r,\n  # a remark\n}\n"), "{raw}");
    assert_eq!(raw.replace("  deny /etc/secret r,\n  # a remark\n", ""), text(false, false, ""));
}

#[test]
fn newer_rules_only_for_newer_compilers() {
    let modern = render(&Profile { name: "x", modern: true, ..Profile::default() });
    assert!(count(&modern, "userns,") == 1 && count(&text(false, false, ""), "userns,") == 0);
}

#[test]
fn names_mean_nothing_to_the_language() {
    assert_eq!(name(None, "default", "c1"), "stapes-default_c1");
    assert_eq!(name(Some("00ff"), "default", "c1"), "stapes.00ff-default_c1");
    let odd = name(None, "a{b}[c]^,@:(d) é\\#", "c1");
    assert!(odd.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.%".contains(&c)), "{odd}");
    assert_ne!(name(None, "a:", "c1"), name(None, "a;", "c1"));
    for project in ["default", "a{b}[c]^,@:(d)", "é.x-%41"] {
        let found = whose(Some("00ff"), &name(Some("00ff"), project, "c1"));
        assert_eq!(found, Some((project.to_string(), "c1".to_string())));
    }
    assert_eq!(whose(None, "stapes.00ff-default_c1"), None);
    assert_eq!(whose(None, "stapes-%4_c1"), None);
    // No default name begins as one of another state folder does.
    assert!(!name(None, "x", "c1").starts_with(&prefix(Some("00ff"))));
}

/// AppArmor's globs as regular expressions: `*` stops at a slash, `**` does not, `{a,b}` are choices.
fn matches(glob: &str, path: &str) -> bool {
    let mut regex = String::from("^");
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        let (take, to) = match c {
            '*' if rest.starts_with("**") => (2, ".*".to_string()),
            '*' => (1, "[^/]*".to_string()),
            '{' => (1, "(?:".to_string()),
            '}' => (1, ")".to_string()),
            ',' => (1, "|".to_string()),
            '[' => {
                let end = rest.find(']').expect("closed") + 1;
                (end, rest[..end].to_string())
            }
            other => (1, regex_lite::escape(&other.to_string())),
        };
        regex += &to;
        rest = &rest[take..];
    }
    Regex::new(&(regex + "$")).expect("a glob").is_match(path)
}

#[test]
fn the_complement_is_complete_and_exact() {
    let globs: Vec<String> = all_but("/proc/sys", &SYSCTLS).into_iter().chain(all_but("/sys", &SYSFS)).collect();
    let denied = |path: &str| globs.iter().any(|g| matches(g, path));
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/h",
        "/proc/sys/kernel/hostnames",
        "/proc/sys/kernel/random/boot_id",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/fs/suid_dumpable",
        "/proc/sys/fs/binfmt_miscellaneous",
        "/proc/sys/fs/b",
        "/proc/sys/ne",
        "/proc/sys/network/x",
        "/proc/sys/users",
        "/proc/sys/kernel/se",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/security/apparmor/.replace",
        "/sys/kernel/debug/x",
        "/sys/firmware/efi/efivars/x",
        "/sys/class/net2",
        "/sys/class/block/sda",
        "/sys/devices/virtual/block/loop0",
        "/sys/devices/system/cpu/cpu0/online",
        "/sys/fs/cgroups",
        "/sys/fs/selinux/enforce",
        "/sys/x",
    ] {
        assert!(denied(path), "{path}");
    }
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/shmmax",
        "/proc/sys/kernel/msgmax",
        "/proc/sys/kernel/sem",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sys/fs/binfmt_misc/register",
        "/sys/class/net/eth0/mtu",
        "/sys/devices/virtual/net/eth0/mtu",
        "/sys/fs/cgroup/x/cgroup.procs",
        "/sys/fs/bpf/x",
        "/proc/1/oom_score_adj",
        "/etc/passwd",
        "/system/x",
    ] {
        assert!(!denied(path), "{path} by {:?}", globs.iter().find(|g| matches(g, path)));
    }
}

#[test]
fn sources_of_binds_show_nothing_of_the_kernels() {
    let globs: Vec<String> = all_but("", &["proc", "sys", "dev/.lxc"]).iter().map(|g| folders(g)).collect();
    let allowed = |path: &str| globs.iter().any(|g| matches(g, path));
    for path in ["/", "/proc", "/proc/", "/proc/sys/", "/sys/kernel", "/dev/.lxc/proc/", "/dev/"] {
        assert!(!allowed(path), "{path} by {:?}", globs.iter().find(|g| matches(g, path)));
    }
    for path in ["/home/", "/procs/x", "/sy", "/var/lib/x", "/dev/null", "/dev/pts/", "/run/systemd/propagate/"] {
        assert!(allowed(path), "{path}");
    }
}
