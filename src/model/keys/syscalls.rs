//! `security.syscalls.*`: what seccomp denies, allows and hands to us.

use super::key::{Key, Live::Record, Scope};
use super::value::Value;

/// Of the options that have system calls handled here.
pub const SYSCALLS_INTERCEPT_PREFIX: &str = "security.syscalls.intercept.";

key_table! {
    SYSCALLS_ALLOW: "security.syscalls.allow", Container, Value::Text, "System calls to allow, one a line; all others are denied"
        => legacy("security.syscalls.whitelist"), long("Not together with raw.seccomp or security.syscalls.deny keys.");
    SYSCALLS_DENY: "security.syscalls.deny", Container, Value::Text, "System calls to deny, one a line"
        => legacy("security.syscalls.blacklist");
    SYSCALLS_DENY_COMPAT: "security.syscalls.deny_compat", Container, Value::Bool, "Deny the 32-bit system calls"
        => default("false"), legacy("security.syscalls.blacklist_compat");
    SYSCALLS_DENY_DEFAULT: "security.syscalls.deny_default", Container, Value::Bool,
        "Deny the system calls no container should need" => default("true"), legacy("security.syscalls.blacklist_default");
    SYSCALLS_BLACKLIST: "security.syscalls.blacklist", Container, Value::Text, "Older form of security.syscalls.deny";
    SYSCALLS_BLACKLIST_COMPAT: "security.syscalls.blacklist_compat", Container, Value::Bool,
        "Older form of security.syscalls.deny_compat";
    SYSCALLS_BLACKLIST_DEFAULT: "security.syscalls.blacklist_default", Container, Value::Bool,
        "Older form of security.syscalls.deny_default";
    SYSCALLS_WHITELIST: "security.syscalls.whitelist", Container, Value::Text, "Older form of security.syscalls.allow";
    SYSCALLS_INTERCEPT_BPF: "security.syscalls.intercept.bpf", Container, Value::Bool, "Handle the bpf system call"
        => default("false");
    SYSCALLS_INTERCEPT_BPF_DEVICES: "security.syscalls.intercept.bpf.devices", Container, Value::Bool,
        "Allow BPF programs for the device control group" => default("false");
    SYSCALLS_INTERCEPT_MKNOD: "security.syscalls.intercept.mknod", Container, Value::Bool,
        "Handle mknod and mknodat for harmless device nodes" => default("false");
    SYSCALLS_INTERCEPT_MOUNT: "security.syscalls.intercept.mount", Container, Value::Bool, "Handle the mount system call"
        => default("false");
    SYSCALLS_INTERCEPT_MOUNT_ALLOWED: "security.syscalls.intercept.mount.allowed", Container, Value::Line,
        "File systems that may be mounted, comma-separated" => live(Record, Record),
        long("Their code in the kernel then reads what the container wrote: only for trusted containers.");
    SYSCALLS_INTERCEPT_MOUNT_FUSE: "security.syscalls.intercept.mount.fuse", Container, Value::Line,
        "File systems to mount by a FUSE program instead, `filesystem=program`, comma-separated" => live(Record, Record);
    SYSCALLS_INTERCEPT_MOUNT_SHIFT: "security.syscalls.intercept.mount.shift", Container, Value::Bool,
        "Map ids of what is mounted" => default("false"), live(Record, Record);
    SYSCALLS_INTERCEPT_SCHED_SETSCHEDULER: "security.syscalls.intercept.sched_setscheduler", Container, Value::Bool,
        "Handle sched_setscheduler, to allow raised priorities" => default("false");
    SYSCALLS_INTERCEPT_SETXATTR: "security.syscalls.intercept.setxattr", Container, Value::Bool,
        "Handle setxattr for overlayfs's opaque mark" => default("false");
    SYSCALLS_INTERCEPT_SYSINFO: "security.syscalls.intercept.sysinfo", Container, Value::Bool,
        "Handle sysinfo, to show the container's own limits" => default("false");
}
