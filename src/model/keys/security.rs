//! `security.*` but for system calls (`syscalls.rs`).

use super::checks;
use super::key::{
    Action, Key,
    Live::{Apply, NextStart, No, Record},
    Scope,
};
use super::value::Value;

const LIST: Value = Value::ListOf(&Value::Line);
const SELINUX_TYPE: Value = Value::Checked("SELinux type", checks::selinux_type);

key_table! {
    SECURITY_AGENT_METRICS: "security.agent.metrics", Vm, Value::Bool, "Ask the agent for state and metrics"
        => default("true"), live(Record, Record);
    SECURITY_BPFFS_DELEGATE_ATTACHS: "security.bpffs.delegate_attachs", Container, LIST,
        "Attachment types of BPF programs to delegate" => long("For unprivileged containers, by a BPF token.");
    SECURITY_BPFFS_DELEGATE_CMDS: "security.bpffs.delegate_cmds", Container, LIST, "BPF commands to delegate"
        => long("For unprivileged containers, by a BPF token.");
    SECURITY_BPFFS_DELEGATE_MAPS: "security.bpffs.delegate_maps", Container, LIST, "Types of BPF maps to delegate"
        => long("For unprivileged containers, by a BPF token.");
    SECURITY_BPFFS_DELEGATE_PROGS: "security.bpffs.delegate_progs", Container, LIST, "Types of BPF programs to delegate"
        => long("For unprivileged containers, by a BPF token.");
    SECURITY_BPFFS_PATH: "security.bpffs.path", Container, Value::Checked("absolute path", checks::abs_path),
        "Where to mount the BPF file system" => default("/sys/fs/bpf");
    SECURITY_CSM: "security.csm", Vm, Value::Bool, "Boot by BIOS instead of UEFI"
        => default("false"), live(NextStart, NextStart), long("Needs security.secureboot=false.");
    SECURITY_GUESTAPI: "security.guestapi", Both, Value::Bool, "Offer /dev/incus in the instance"
        => default("true"), live(Apply(Action::GuestApi), Apply(Action::GuestApi));
    SECURITY_GUESTAPI_IMAGES: "security.guestapi.images", Container, Value::Bool, "Offer the host's images through /dev/incus"
        => default("false");
    SECURITY_IDMAP_BASE: "security.idmap.base", Container, Value::Uint32, "First host id of an isolated id map"
        => long("Unset: chosen by the program.");
    SECURITY_IDMAP_ISOLATED: "security.idmap.isolated", Container, Value::Bool,
        "Use an id map no other isolated container shares" => default("false");
    SECURITY_IDMAP_SIZE: "security.idmap.size", Container, Value::Uint32, "Number of ids in the id map";
    SECURITY_IOMMU: "security.iommu", Vm, Value::Bool, "Give the virtual machine an IOMMU" => default("false");
    SECURITY_NESTING: "security.nesting", Both, Value::Bool, "Allow containers within the instance"
        => default("false"), default_vm("true"), live(Apply(Action::Nesting), No);
    SECURITY_PRIVILEGED: "security.privileged", Container, Value::Bool, "Run without a user namespace"
        => default("false"), long("Root in the container is root on the host, held back by little.");
    SECURITY_PROTECTION_DELETE: "security.protection.delete", Both, Value::Bool, "Refuse to delete the instance"
        => default("false"), live(Record, Record);
    SECURITY_PROTECTION_SHIFT: "security.protection.shift", Container, Value::Bool,
        "Refuse to change the owners of the files on disk" => default("false"), live(Record, Record);
    SECURITY_PROTECTION_START: "security.protection.start", Both, Value::Bool, "Refuse to start the instance"
        => default("false"), live(Record, Record);
    SECURITY_SECUREBOOT: "security.secureboot", Vm, Value::Bool, "Boot with UEFI secure boot"
        => default("true"), live(NextStart, NextStart);
    SECURITY_SELINUX_DOMAIN: "security.selinux.domain", Both, SELINUX_TYPE, "SELinux domain of the instance";
    SECURITY_SELINUX_LABEL_ROOTFS: "security.selinux.label_rootfs", Both, Value::OneOf(&["auto", "always", "never"]),
        "When to label the root file system" => default("auto");
    SECURITY_SELINUX_LEVEL: "security.selinux.level", Both, Value::Checked("SELinux level", checks::selinux_level),
        "SELinux level of the instance";
    SECURITY_SELINUX_TYPE: "security.selinux.type", Both, SELINUX_TYPE, "SELinux type of the instance's files";
    SECURITY_SEV: "security.sev", Vm, Value::Bool, "Encrypt the memory with AMD SEV" => default("false");
    SECURITY_SEV_POLICY_ES: "security.sev.policy.es", Vm, Value::Bool, "Encrypt the registers too (SEV-ES)" => default("false");
    SECURITY_SEV_SESSION_DATA: "security.sev.session.data", Vm, Value::Checked("base64", checks::base64),
        "Guest owner's session blob";
    SECURITY_SEV_SESSION_DH: "security.sev.session.dh", Vm, Value::Checked("base64", checks::base64),
        "Guest owner's Diffie-Hellman key";
}
