//! The AppArmor profile of an instance as text: rendered from typed settings, compiled and loaded by `host::lsm`.
//!
//! Everything inside is allowed but what reaches the host's kernel: its settings below /proc/sys and /sys, its debugging
//! and configuration file systems, and other confined processes. AppArmor has no "all but": [`all_but`] writes the
//! complement of a list of names as globs. Pure; only `raw.apparmor` is the user's own text. Source: apparmor.d(5).

use std::collections::BTreeSet;
use std::fmt::Write;

/// What decides about the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile<'a> {
    /// Its name; see [`name`].
    pub name: &'a str,
    /// Root inside is the host's root: mounts are confined too.
    pub privileged: bool,
    /// Containers may run inside.
    pub nesting: bool,
    /// It has a policy namespace of its own, which it may fill.
    pub namespace: bool,
    /// The user's own rules.
    pub raw: &'a str,
    /// The compiler knows the rules of AppArmor 4.
    pub modern: bool,
}

/// Below /proc/sys: what belongs to the instance's own namespaces, and what the kernel checks by itself.
const SYSCTLS: [&str; 8] = [
    "kernel/hostname",
    "kernel/domainname",
    "kernel/shm*",
    "kernel/msg*",
    "kernel/sem*",
    "net",
    "user",
    "fs/binfmt_misc",
];
/// Below /sys: the same.
const SYSFS: [&str; 4] = ["class/net", "devices/virtual/net", "fs/cgroup", "fs/bpf"];
/// AppArmor's own files: they lead a process to the policy namespace that it is in, and to no other.
const OWN_POLICY: &str = "kernel/security/apparmor";
/// File systems that a privileged instance may mount where it likes: none of them shows anything of the kernel's.
const FILE_SYSTEMS: [&str; 19] = [
    "autofs", "btrfs", "cgroup", "cgroup2", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuse", "fuse.*",
    "iso9660", "mqueue", "overlay", "ramfs", "squashfs", "tmpfs", "xfs",
];
/// File systems that are the kernel's own, for all instances alike.
const KERNEL_FILE_SYSTEMS: [&str; 7] =
    ["configfs", "debugfs", "devtmpfs", "efivarfs", "pstore", "securityfs", "tracefs"];

/// The name of an instance's profile. `tag` tells state folders apart: none for the usual one. Whatever a project may be
/// called, the name holds nothing that AppArmor's language gives a meaning to.
pub fn name(tag: Option<&str>, project: &str, instance: &str) -> String {
    let mut out = prefix(tag);
    for byte in project.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02x}");
            }
        }
    }
    let _ = write!(out, "_{instance}");
    out
}

/// Project and instance that a profile's [`name`] was made of.
pub fn whose(tag: Option<&str>, name: &str) -> Option<(String, String)> {
    let (project, instance) = name.strip_prefix(&prefix(tag))?.rsplit_once('_')?;
    let mut bytes = Vec::new();
    let mut rest = project.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some((String::from_utf8(bytes).ok()?, instance.to_string()))
}

/// What the names of all profiles of a state folder begin with, and no other's.
pub fn prefix(tag: Option<&str>) -> String {
    tag.map_or_else(|| "stapes-".to_string(), |tag| format!("stapes.{tag}-"))
}

/// The text.
pub fn render(profile: &Profile<'_>) -> String {
    let name = profile.name;
    let mut rules: Vec<String> = Vec::new();
    let mut add = |rule: &str| rules.push(rule.to_string());
    for class in ["capability", "dbus", "file", "network", "umount", "unix"] {
        add(class);
    }
    if profile.modern {
        for class in ["userns", "mqueue", "io_uring"] {
            add(class);
        }
    }
    // Who may send or trace is for the sender's profile to say; of the host, everybody may who has the right. A host that is
    // itself confined, as inside a container, counts as confined here.
    add("signal (receive)");
    add(&format!("signal peer={name}"));
    add("ptrace (readby, tracedby)");
    add(&format!("ptrace peer={name}"));
    let own_policy = profile.namespace.then_some(OWN_POLICY);
    let sysfs: Vec<&str> = SYSFS.into_iter().chain(own_policy).collect();
    for glob in all_but("/proc/sys", &SYSCTLS).iter().chain(&all_but("/sys", &sysfs)) {
        add(&format!("deny {glob} w"));
    }
    for path in ["acpi/**", "kcore", "kmem", "mem", "sysrq-trigger"] {
        add(&format!("deny /proc/{path} rw"));
    }
    add("deny /proc/bus/** w");
    if profile.privileged && !profile.nesting {
        mounts(&mut add);
    } else {
        add("mount");
        add("pivot_root");
    }
    if profile.nesting {
        add("ptrace");
        add("signal");
        // Only their being there matters to the kernel (`mount_too_revealing`).
        for kind in ["proc", "sys"] {
            add(&format!("deny /dev/.lxc/{kind}/** rw"));
        }
    }
    let mut out = format!("profile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{\n");
    for rule in rules {
        let _ = writeln!(out, "  {rule},");
    }
    for line in profile.raw.lines() {
        let _ = writeln!(out, "  {line}");
    }
    out + "}\n"
}

/// What a privileged instance may mount: nothing that would show /proc or /sys under another path, where the rules about
/// them do not reach. Compilers before 3.1.7 make of any rule with `rw` or another plain option one that allows every new
/// mount (CVE-2016-1585): the rules do without, and what matters is denied besides.
fn mounts(add: &mut impl FnMut(&str)) {
    add(&format!("mount fstype=({})", FILE_SYSTEMS.join(", ")));
    add("mount fstype=proc -> /proc/");
    add("mount fstype=sysfs -> /sys/");
    add("mount fstype=devpts -> /dev/pts/");
    add("mount fstype=binfmt_misc -> /proc/sys/fs/binfmt_misc/");
    for kind in KERNEL_FILE_SYSTEMS {
        add(&format!("deny mount fstype={kind}"));
    }
    for (kind, place) in [("proc", "proc"), ("sysfs", "sys")] {
        let elsewhere = all_but("", &[place]);
        for target in elsewhere.iter().map(|g| folders(g)).chain(["/".to_string(), format!("/{place}/?**")]) {
            add(&format!("deny mount fstype={kind} -> {target}"));
        }
    }
    for source in all_but("", &["proc", "sys", "dev/.lxc"]) {
        for kind in ["bind", "rbind", "move"] {
            add(&format!("mount options=({kind}) {}", folders(&source)));
        }
    }
    for source in ["/proc{,/,/**}", "/sys{,/,/**}", "/dev/.lxc{,/,/**}"] {
        for kind in ["bind", "rbind", "move"] {
            add(&format!("deny mount options=({kind}) {source}"));
        }
    }
    add("deny mount options=(rbind) /");
    add(
        "mount options=(ro, remount) options in (bind, silent, nosuid, nodev, noexec, noatime, nodiratime, relatime, strictatime)",
    );
    for kind in ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"] {
        add(&format!("mount options=(make-{kind})"));
    }
}

/// AppArmor's paths of folders end in a slash.
fn folders(glob: &str) -> String {
    glob.replace("{,/**}", "{,/,/**}")
}

/// Globs for everything below the folder `base` but `kept`: paths relative to it; each stands for itself and all below it,
/// with a `*` at its end for every name that begins so.
fn all_but(base: &str, kept: &[&str]) -> Vec<String> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut below: BTreeSet<&str> = BTreeSet::new();
    for path in kept {
        match path.split_once('/') {
            None => names.insert(path),
            Some((folder, _)) => below.insert(folder) && names.insert(folder),
        };
    }
    let mut out = complement(base, &names);
    for folder in below {
        let inner: Vec<&str> = kept.iter().filter_map(|p| p.strip_prefix(folder)?.strip_prefix('/')).collect();
        out.extend(all_but(&format!("{base}/{folder}"), &inner));
    }
    out
}

/// The same for the names in one folder: each place where a name can stop being one of `names` gives one glob.
fn complement(base: &str, names: &BTreeSet<&str>) -> Vec<String> {
    let exact = |name: &&str| !name.ends_with('*');
    let stem = |name: &str| name.trim_end_matches('*').to_string();
    let mut starts: BTreeSet<String> = BTreeSet::new();
    for name in names {
        let stem = stem(name);
        starts.extend((0..=stem.len()).filter(|at| stem.is_char_boundary(*at)).map(|at| stem[..at].to_string()));
    }
    let wild: Vec<String> = names.iter().filter(|n| !exact(n)).map(|n| stem(n)).collect();
    let mut out = Vec::new();
    for start in &starts {
        if wild.iter().any(|w| start.starts_with(w.as_str())) {
            continue;
        }
        let next: BTreeSet<char> =
            names.iter().filter_map(|n| stem(n).strip_prefix(start.as_str())?.chars().next()).collect();
        let complete = names.contains(start.as_str());
        if !start.is_empty() && !complete {
            out.push(format!("{base}/{start}{{,/**}}"));
        }
        let next: String = next.into_iter().collect();
        // A longer name, with anything but what a kept one goes on with.
        out.push(match next.is_empty() {
            true => format!("{base}/{start}[^/]*{{,/**}}"),
            false => format!("{base}/{start}[^/{next}]*{{,/**}}"),
        });
    }
    out
}

#[cfg(test)]
#[path = "apparmor_tests.rs"]
mod tests;
