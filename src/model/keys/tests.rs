use super::*;
use crate::error::Result;
use crate::model::instance::{Config, InstanceType};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The names of section 2 of the reference, typed out there; prefixes end in a dot.
const REFERENCE: &str = "
boot.autorestart boot.autostart boot.autostart.delay boot.autostart.priority boot.host_shutdown_action
boot.host_shutdown_timeout boot.stop.priority
cloud-init.user-data cloud-init.vendor-data cloud-init.network-config
user.user-data user.vendor-data user.network-config user.meta-data
cluster.evacuate environment. agent.nic_config linux.kernel_modules linux.sysctl. smbios11.
systemd.credential. systemd.credential-binary. user. image.
limits.cpu limits.cpu.allowance limits.cpu.priority limits.cpu.nodes limits.disk.priority limits.memory
limits.memory.enforce limits.memory.swap limits.memory.swap.priority limits.memory.oom_priority
limits.memory.hotplug limits.memory.hugepages limits.processes
limits.hugepages.64KB limits.hugepages.1MB limits.hugepages.2MB limits.hugepages.1GB limits.kernel.
migration.stateful migration.incremental.memory migration.incremental.memory.goal
migration.incremental.memory.iterations
nvidia.runtime nvidia.driver.capabilities nvidia.require.cuda nvidia.require.driver
oci.entrypoint oci.cwd oci.uid oci.gid oci.dns.nameservers oci.dns.search oci.dns.domain
raw.apparmor raw.idmap raw.lxc raw.seccomp raw.qemu raw.qemu.conf raw.qemu.qmp.early raw.qemu.qmp.pre-start
raw.qemu.qmp.post-start raw.qemu.scriptlet
security.privileged security.nesting security.idmap.isolated security.idmap.base security.idmap.size
security.guestapi security.guestapi.images security.agent.metrics
security.protection.delete security.protection.start security.protection.shift
security.secureboot security.csm security.iommu security.sev security.sev.policy.es security.sev.session.dh
security.sev.session.data
security.selinux.domain security.selinux.type security.selinux.level security.selinux.label_rootfs
security.bpffs.delegate_cmds security.bpffs.delegate_maps security.bpffs.delegate_progs
security.bpffs.delegate_attachs security.bpffs.path
security.syscalls.allow security.syscalls.deny security.syscalls.deny_default security.syscalls.deny_compat
security.syscalls.whitelist security.syscalls.blacklist security.syscalls.blacklist_default
security.syscalls.blacklist_compat
security.syscalls.intercept.bpf security.syscalls.intercept.bpf.devices security.syscalls.intercept.mknod
security.syscalls.intercept.mount security.syscalls.intercept.mount.allowed
security.syscalls.intercept.mount.fuse security.syscalls.intercept.mount.shift
security.syscalls.intercept.sched_setscheduler security.syscalls.intercept.setxattr
security.syscalls.intercept.sysinfo
snapshots.schedule snapshots.schedule.stopped snapshots.pattern snapshots.expiry snapshots.expiry.manual
volatile.uuid volatile.uuid.generation volatile.base_image volatile.apply_template volatile.apply_nvram
volatile.cloud-init.instance-id volatile.container.oci volatile.cpu.nodes volatile.cluster.group
volatile.evacuate.origin volatile.idmap.base volatile.idmap.current volatile.idmap.next volatile.last_state.idmap
volatile.last_state.power volatile.last_state.ready volatile.last_state.agent volatile.rebalance.last_move
volatile.selinux.context volatile.vsock_id volatile.vm.boot_state volatile.vm.needs_reset
volatile.vm.rtc_adjustment volatile.vm.rtc_offset
apply_quota ceph_rbd host_name hwaddr name io.bus last_state.created last_state.hwaddr last_state.mtu
last_state.ip_addresses last_state.pci.driver last_state.pci.parent last_state.pci.slot.name last_state.usb.bus
last_state.usb.device last_state.vdpa.name last_state.vf.hwaddr last_state.vf.id last_state.vf.parent
last_state.vf.spoofcheck last_state.vf.trusted last_state.vf.vlan mig.uuid vgpu.uuid
";

/// Declared here beyond the reference's table: image properties that are acted on, and two keys of its source.
const BEYOND: [&str; 10] = [
    "image.os",
    "image.type",
    "image.requirements.cdrom_agent",
    "image.requirements.cdrom_cloud_init",
    "image.requirements.cgroup",
    "image.requirements.nesting",
    "image.requirements.privileged",
    "image.requirements.secureboot",
    "volatile.vm.definition",
    "volatile.vm.hotplug.memory",
];

fn config(entries: &[(&str, &str)]) -> Config {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

fn container(entries: &[(&str, &str)]) -> Result<()> {
    validate_config(&config(entries), InstanceType::Container)
}

fn message(entries: &[(&str, &str)]) -> String {
    container(entries).expect_err("refused").to_string()
}

#[test]
fn covers_the_reference() {
    let want: BTreeSet<&str> = REFERENCE.split_whitespace().chain(BEYOND).collect();
    let have: BTreeSet<&str> = all().map(|k| k.name).collect();
    assert_eq!(want.difference(&have).collect::<Vec<_>>(), Vec::<&&str>::new(), "not declared");
    assert_eq!(have.difference(&want).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the reference");
}

#[test]
fn unique_and_documented() {
    let names: BTreeSet<String> = all().map(Key::display_name).collect();
    assert_eq!(names.len(), all().count());
    for key in all() {
        assert!(key.short.len() > 6 && !key.short.ends_with('.'), "{}", key.name);
        assert!(key.long.is_empty() || key.long.ends_with('.'), "{}", key.name);
        assert_eq!(key.shape != Shape::Exact && key.shape != Shape::Device, key.name.ends_with('.'), "{}", key.name);
        if let Some(legacy) = key.legacy {
            assert!(find(legacy).is_some_and(|k| k.shape == Shape::Exact), "{legacy}");
        }
    }
}

#[test]
fn defaults_and_words_parse() {
    for key in all() {
        for value in [key.default, key.default_vm.unwrap_or("")].into_iter().chain(key.value.words()) {
            key.value.check(value).unwrap_or_else(|e| panic!("{}: {value}: {e}", key.name));
        }
    }
}

#[test]
fn live_classes() {
    use InstanceType::{Container, VirtualMachine};
    assert_eq!(LIMITS_CPU.live_for(Container), Live::Apply(Action::Cpu));
    assert_eq!(SECURITY_PRIVILEGED.live_for(Container), Live::NextStart);
    assert_eq!(SECURITY_PRIVILEGED.live_for(VirtualMachine), Live::Record);
    assert_eq!(SECURITY_NESTING.live_for(VirtualMachine), Live::No);
    assert_eq!(find("environment.A").expect("key").live_for(Container), Live::Record);
}

#[test]
fn lookup() {
    let name = |n: &str| find(n).map(|k| k.display_name());
    assert_eq!(name("limits.cpu").as_deref(), Some("limits.cpu"));
    assert_eq!(name("user.user-data").as_deref(), Some("user.user-data"));
    assert_eq!(name("user.x").as_deref(), Some("user.*"));
    assert_eq!(name("volatile.eth0.hwaddr").as_deref(), Some("volatile.<device>.hwaddr"));
    assert_eq!(name("volatile.eth0.last_state.hwaddr").as_deref(), Some("volatile.<device>.last_state.hwaddr"));
    assert_eq!(name("limits.kernel.nofile").as_deref(), Some("limits.kernel.*"));
    for unknown in [
        "",
        "user.",
        "environment.",
        "volatile.x",
        "volatile..hwaddr",
        "limits.cpuu",
        "limits.kernel.",
        "limits.kernel.NOFILE",
        "environment.A=B",
    ] {
        assert_eq!(name(unknown), None, "{unknown}");
    }
    assert_eq!(VOLATILE_DEVICE_HOST_NAME.of("eth0"), "volatile.eth0.host_name");
    assert_eq!(VOLATILE_DEVICE_HWADDR.device_in("volatile.a.b.hwaddr"), Some("a.b"));
}

#[test]
fn messages() {
    assert_eq!(message(&[("foo", "1")]), "Unknown configuration key: foo");
    assert_eq!(message(&[("security.secureboot", "true")]), "Unknown configuration key: security.secureboot");
    assert_eq!(message(&[("boot.autorestart", "maybe")]), "Invalid value for a boolean \"maybe\"");
    assert_eq!(message(&[("boot.autostart", "maybe")]), "\"maybe\" isn't a valid value");
    assert_eq!(message(&[("limits.cpu", "x")]), "Invalid CPU limit syntax");
    assert_eq!(message(&[("limits.memory.enforce", "x")]), "Invalid value \"x\" (not one of [hard soft])");
    assert_eq!(message(&[("environment.A", "a\nb")]), "Environment variables cannot contain line breaks");
    assert_eq!(message(&[("oci.dns.nameservers", "1.1.1.1,x")]), "Item \"x\": Not an IP address \"x\"");
    let both = [("security.syscalls.deny", "a"), ("security.syscalls.blacklist", "b")];
    assert_eq!(
        message(&both),
        "Mutually exclusive keys security.syscalls.deny and security.syscalls.blacklist are set"
    );
    let seccomp = [("raw.seccomp", "2"), ("security.syscalls.allow", "read")];
    assert_eq!(message(&seccomp), "raw.seccomp is mutually exclusive with security.syscalls*");
    let credentials = [("systemd.credential.a", "x"), ("systemd.credential-binary.a", "eA==")];
    assert!(message(&credentials).starts_with("Mutually exclusive keys systemd.credential.a and"));
    let vm = validate_config(&config(&[("limits.kernel.nofile", "1")]), InstanceType::VirtualMachine);
    assert_eq!(vm.expect_err("vm").to_string(), "limits.kernel.nofile isn't supported for VMs");
    assert!(message(&[("limits.cpu", "cores=2")]).starts_with("CPU topology syntax"));
}

#[test]
fn profiles_and_expanded() {
    let mixed = config(&[("security.secureboot", "false"), ("security.privileged", "true"), ("limits.cpu", "cores=2")]);
    assert!(validate_profile(&mixed).is_ok() && validate_expanded(&mixed).is_ok());
    assert!(validate_profile(&config(&[("volatile.uuid", "")])).is_err());
    assert!(validate_profile(&config(&[("image.os", "debian")])).is_err());
    assert!(validate_expanded(&config(&[("image.os", "debian"), ("volatile.eth0.hwaddr", "x")])).is_ok());
    assert!(container(&[("image.os", "debian"), ("limits.memory", ""), ("user.note", "a\n\tb")]).is_ok());
}

#[test]
fn readers() {
    let c = config(&[
        ("security.nesting", "on"),
        ("limits.processes", "40"),
        ("limits.hugepages.2MB", "4MiB"),
        ("environment.B", "2"),
        ("environment.A", "1"),
        ("security.syscalls.blacklist", "keyctl"),
        ("oci.dns.search", "a.b, c"),
        ("boot.autorestart", "x"),
    ]);
    assert!(SECURITY_NESTING.bool(&c).expect("bool"));
    assert!(!SECURITY_PRIVILEGED.bool(&c).expect("bool"));
    assert!(SECURITY_GUESTAPI.bool(&c).expect("bool"));
    assert!(SECURITY_NESTING.bool_for(&Config::new(), InstanceType::VirtualMachine).expect("bool"));
    assert_eq!(LIMITS_PROCESSES.i64(&c).expect("int"), Some(40));
    assert_eq!(BOOT_HOST_SHUTDOWN_TIMEOUT.i64(&c).expect("int"), Some(30));
    assert_eq!(LIMITS_HUGEPAGES_2MB.size(&c).expect("size"), Some(4 << 20));
    assert_eq!(ENVIRONMENT.entries(&c).collect::<Vec<_>>(), [("A", "1"), ("B", "2")]);
    assert_eq!(SYSCALLS_DENY.get(&c), Some("keyctl"));
    assert_eq!(OCI_DNS_SEARCH.list(&c), ["a.b", "c"]);
    assert_eq!(LIMITS_MEMORY.read(&c, parse::memory).expect("memory"), None);
    let e = BOOT_AUTORESTART.bool(&c).expect_err("word").to_string();
    assert_eq!(e, "Invalid value of \"boot.autorestart\": Invalid value for a boolean \"x\"");
}

/// Rows CVE-2026-23953, GHSA-m3j6-p3v3-qmjv, GHSA-7fj9-65v4-rp7h: no key takes a control character; many-line ones take line
/// feeds and tabs and nothing else.
#[test]
fn no_key_takes_control_characters() {
    for key in all() {
        let name = key.of(if matches!(key.shape, Shape::Prefix(_)) { "x" } else { "eth0" });
        for c in (0u8..32).chain([127]).map(char::from) {
            let value = format!("a{c}b");
            let refused = check(&name, &value, None).is_err();
            assert!(refused || (key.value.is_text() && matches!(c, '\n' | '\t')), "{name} takes {c:?}");
        }
    }
    for name in ["nvidia.driver.capabilities", "nvidia.require.cuda", "oci.dns.domain", "environment.X"] {
        assert!(container(&[(name, "a\nb")]).is_err() && container(&[(name, "a\rb")]).is_err(), "{name}");
    }
}

/// Row CVE-2026-33945: a credential's name is a file name and no path.
#[test]
fn credential_names_are_no_paths() {
    for bad in ["../../x", "a/b", "a\nb", "..", ".", "", &"x".repeat(256)] {
        assert!(container(&[(&format!("systemd.credential.{bad}"), "v")]).is_err(), "{bad}");
    }
    assert!(container(&[("systemd.credential.my.secret-1_x", "v\n")]).is_ok());
    for bad in ["/etc/x", "net/../x", "net//x", "a b"] {
        assert!(container(&[(&format!("linux.sysctl.{bad}"), "1")]).is_err(), "{bad}");
    }
    assert!(
        container(&[("linux.sysctl.net.ipv4.ip_forward", "1"), ("linux.sysctl.net/ipv4/conf/eth0.1/x", "1")]).is_ok()
    );
}

proptest! {
    #[test]
    fn never_panics(name in "\\PC{0,20}|(limits|volatile|environment|raw|snapshots)\\.[a-z.]{0,12}", value in "\\PC{0,20}") {
        let _ = check(&name, &value, None);
        let _ = check(&name, &value, Some(InstanceType::Container));
        for key in all() {
            let _ = key.value.check(&value);
        }
    }
}
