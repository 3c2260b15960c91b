use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Options of section 3 of the reference, by type (and sub-type behind a slash), typed out there.
const REFERENCE: &str = "
none:
disk: source path pool size size.state readonly recursive required optional shift propagation raw.mount.options dependent
  initial.uid initial.gid initial.mode boot.priority io.bus io.cache wwn attached limits.read limits.write limits.max
  limits.read.burst limits.write.burst limits.max.burst limits.read.burst.length limits.write.burst.length
  limits.max.burst.length ceph.user_name ceph.cluster_name
unix-char: source path major minor uid gid mode required limits.read limits.write
unix-block: source path major minor uid gid mode required limits.read limits.write
unix-hotplug: vendorid productid pci uid gid mode required
usb: vendorid productid serial busnum devnum uid gid mode required attached
gpu/physical: vendorid productid id pci uid gid mode
gpu/mdev: mdev vendorid productid id pci
gpu/sriov: vendorid productid id pci
gpu/native-context: vendorid productid id pci blob.size
gpu/mig: mig.uuid mig.gi mig.ci vendorid productid id pci
infiniband/physical: parent name mtu hwaddr
infiniband/sriov: parent name mtu hwaddr node_guid port_guid
proxy: listen connect bind nat proxy_protocol uid gid mode security.uid security.gid
tpm: path pathrm
pci: address firmware
nic/bridged: network parent name hwaddr mtu host_name boot.priority attached connected io.bus ipv4.address ipv6.address
  ipv4.gateway ipv6.gateway ipv4.routes ipv6.routes ipv4.routes.external ipv6.routes.external limits.ingress
  limits.egress limits.max limits.priority queue.tx.length security.mac_filtering security.ipv4_filtering
  security.ipv6_filtering security.port_isolation security.acls security.acls.default.ingress.action
  security.acls.default.egress.action security.acls.default.ingress.logged security.acls.default.egress.logged vlan
  vlan.tagged
nic/macvlan: network parent name hwaddr mtu boot.priority attached connected io.bus mode vlan gvrp
nic/sriov: network parent name hwaddr mtu boot.priority attached vlan security.mac_filtering security.trusted vendorid
  productid pci
nic/physical: network parent name hwaddr mtu boot.priority attached vlan vlan.tagged gvrp
nic/ovn: network name hwaddr mtu host_name boot.priority attached connected io.bus acceleration nested vlan ipv4.address
  ipv6.address ipv4.gateway ipv6.gateway ipv4.address.external ipv6.address.external ipv4.routes ipv6.routes
  ipv4.routes.external ipv6.routes.external limits.ingress limits.egress limits.max limits.priority security.acls
  security.acls.default.ingress.action security.acls.default.egress.action security.acls.default.ingress.logged
  security.acls.default.egress.logged security.promiscuous
nic/ipvlan: parent name hwaddr mtu attached mode ipv4.address ipv6.address ipv4.gateway ipv6.gateway ipv4.host_table
  ipv6.host_table vlan gvrp
nic/p2p: name hwaddr mtu host_name boot.priority attached connected io.bus ipv4.routes ipv6.routes limits.ingress
  limits.egress limits.max limits.priority queue.tx.length
nic/routed: parent name hwaddr mtu host_name attached connected io.bus ipv4.address ipv6.address ipv4.gateway ipv6.gateway
  ipv4.host_address ipv6.host_address ipv4.host_table ipv6.host_table ipv4.host_tables ipv6.host_tables
  ipv4.neighbor_probe ipv6.neighbor_probe ipv4.routes ipv6.routes vlan vrf gvrp limits.ingress limits.egress limits.max
  limits.priority queue.tx.length
";

fn device(entries: &[(&str, &str)]) -> Device {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

fn ok(entries: &[(&str, &str)]) {
    validate("d", &device(entries), InstanceType::Container).unwrap_or_else(|e| panic!("{entries:?}: {e}"));
}

fn bad(entries: &[(&str, &str)]) -> String {
    let e = validate("d", &device(entries), InstanceType::Container).expect_err("refused").to_string();
    e.strip_prefix("Device validation failed for \"d\": ").expect(&e).to_string()
}

#[test]
fn covers_the_reference() {
    let mut want: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut current = String::new();
    for word in REFERENCE.split_whitespace() {
        match word.strip_suffix(':') {
            Some(name) => {
                current = name.to_string();
                want.entry(current.clone()).or_default();
            }
            None => drop(want.entry(current.clone()).or_default().insert(word)),
        }
    }
    let name = |k: &Kind| if k.sub.is_empty() { k.device.to_string() } else { format!("{}/{}", k.device, k.sub) };
    let have: BTreeMap<String, BTreeSet<&str>> = kinds()
        .filter(|k| !std::ptr::eq(*k, &nic::MANAGED))
        .map(|k| (name(k), k.options.iter().map(|o| o.name).collect()))
        .collect();
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (kind, options) in &want {
        assert_eq!(&have[kind], options, "{kind}");
    }
}

#[test]
fn tables_are_sound() {
    for kind in kinds() {
        let names: BTreeSet<&str> = kind.options.iter().map(|o| o.name).collect();
        assert_eq!(names.len(), kind.options.len(), "{}/{}", kind.device, kind.sub);
        for key in kind.required.iter().chain(kind.updatable) {
            assert!(names.contains(key.name), "{}/{}: {}", kind.device, kind.sub, key.name);
        }
        for key in kind.options {
            assert!(key.short.len() > 2 && !key.short.ends_with('.'), "{}", key.name);
            for value in [key.default].into_iter().chain(key.value.words()) {
                key.value.check(value).unwrap_or_else(|e| panic!("{}: {e}", key.name));
            }
        }
    }
}

#[test]
fn disks() {
    ok(&[
        ("type", "disk"),
        ("path", "/"),
        ("pool", "default"),
        ("size", "10GiB"),
        ("initial.uid", "5"),
        ("user.x", "y"),
    ]);
    ok(&[("type", "disk"), ("source", "/srv"), ("path", "srv"), ("shift", "true"), ("limits.max", "10MB,5iops")]);
    ok(&[("type", "disk"), ("source", "tmpfs:"), ("path", "/t"), ("size", "1GiB"), ("initial.mode", "0700")]);
    ok(&[("type", "disk"), ("source", "vol/sub"), ("pool", "p"), ("path", "/x")]);
    assert_eq!(bad(&[("type", "disk"), ("path", "/"), ("pool", "p"), ("foo", "1")]), "Invalid device option \"foo\"");
    assert_eq!(bad(&[("type", "disk"), ("path", "/")]), "Root disk entry must have a \"pool\" property set");
    assert_eq!(
        bad(&[("type", "disk"), ("path", "/x")]),
        "Disk entry is missing the required \"source\" or \"path\" property"
    );
    assert_eq!(
        bad(&[("type", "disk"), ("source", "/x"), ("path", "/y"), ("readonly", "maybe")]),
        "Invalid value for device option \"readonly\": Invalid value for a boolean \"maybe\""
    );
    assert_eq!(
        bad(&[("type", "disk"), ("source", "x"), ("path", "/y")]),
        "Source path must be absolute for local sources"
    );
    assert_eq!(
        bad(&[("type", "disk"), ("source", "/a"), ("pool", "p"), ("path", "/y")]),
        "Storage volumes cannot be specified as absolute paths"
    );
    assert!(bad(&[("type", "disk"), ("source", "v/../../x"), ("pool", "p"), ("path", "/y")]).contains("components"));
    assert!(bad(&[("type", "disk"), ("source", ".."), ("pool", "p"), ("path", "/y")]).contains("components"));
    assert_eq!(
        bad(&[("type", "disk"), ("source", "/a"), ("path", "/b"), ("io.bus", "nvme")]),
        "IO bus configuration cannot be applied to containers"
    );
    assert_eq!(
        bad(&[("type", "disk"), ("source", "/a"), ("path", "/b"), ("size", "1GiB")]),
        "Only root or tmpfs disks can have a size quota"
    );
    assert!(bad(&[("type", "disk"), ("source", "/a\n"), ("path", "/b")]).contains("line breaks"));
    let volume = device(&[("type", "disk"), ("source", "v/a/b"), ("pool", "p")]);
    assert_eq!(disk::source(&volume), disk::Source::Volume { pool: "p", volume: "v", path: Some("a/b") });
    assert_eq!(disk::source(&device(&[("source", "cephfs:a/b")])), disk::Source::CephFs("a/b"));
    let volume = [("type", "disk"), ("pool", "p"), ("source", "v/a"), ("path", "/b")];
    let with = |kind: [(&'static str, &'static str); 4], more| [&kind[..], &[more]].concat();
    ok(&with(volume, ("initial.mode", "750")));
    assert!(bad(&with(volume, ("initial.size", "1GiB"))).starts_with("Non-root disk device only supports initial.uid"));
    let root = [("type", "disk"), ("pool", "p"), ("path", "/"), ("size", "1GiB")];
    ok(&with(root, ("initial.zfs.blocksize", "16KiB")));
    ok(&with(root, ("initial.foo", "7")));
    assert!(bad(&with(root, ("initial.size", "much"))).starts_with("Invalid initial device configuration: "));
    let limited = device(&[("limits.read", "1MB"), ("limits.write", "5iops")]);
    let (read, write) = disk::io_limits(&limited).expect("limits");
    assert_eq!((read.bytes, read.iops, write.bytes, write.iops), (Some(1_000_000), None, None, Some(5)));
    let vm = |entries: &[(&str, &str)]| validate("d", &device(entries), InstanceType::VirtualMachine);
    let burst = [("type", "disk"), ("path", "/"), ("pool", "p"), ("limits.max.burst", "10MB")];
    assert!(vm(&burst).is_err() && vm(&[burst[0], burst[1], burst[2], burst[3], ("limits.max", "1MB")]).is_ok());
}

#[test]
fn nics() {
    ok(&[
        ("type", "nic"),
        ("nictype", "bridged"),
        ("parent", "br0"),
        ("name", "eth0"),
        ("hwaddr", "10:66:6a:00:00:01"),
    ]);
    ok(&[("type", "nic"), ("network", "incusbr0"), ("ipv4.address", "10.0.0.5"), ("limits.max", "10Mbit")]);
    ok(&[("type", "nic"), ("nictype", "routed"), ("ipv4.address", "10.0.0.5, 10.0.0.6"), ("ipv4.gateway", "none")]);
    ok(&[("type", "nic"), ("nictype", "ipvlan"), ("parent", "eth0"), ("mode", "l2"), ("ipv4.address", "10.0.0.5/24")]);
    ok(&[("type", "nic"), ("nictype", "p2p")]);
    assert_eq!(
        bad(&[("type", "nic"), ("nictype", "bridged")]),
        "Invalid value for device option \"parent\": Required value"
    );
    assert_eq!(bad(&[("type", "nic"), ("nictype", "x")]), "Unsupported device type");
    assert_eq!(bad(&[("type", "nic")]), "Unsupported device type");
    assert!(
        bad(&[("type", "nic"), ("network", "n"), ("parent", "p")])
            .contains("Cannot use \"parent\" property in conjunction")
    );
    assert!(
        bad(&[("type", "nic"), ("nictype", "ipvlan"), ("parent", "e0"), ("ipv4.address", "10.0.0.5/24")])
            .contains("Not an IP address")
    );
    assert!(
        bad(&[("type", "nic"), ("nictype", "bridged"), ("parent", "b"), ("vlan", "5"), ("vlan.tagged", "4,5")])
            .starts_with("Tagged VLAN")
    );
    assert!(bad(&[("type", "nic"), ("nictype", "bridged"), ("parent", "b"), ("io.bus", "usb")]).contains("io.bus"));
    assert!(bad(&[("type", "nic"), ("nictype", "sriov")]).contains("Required value"));
}

#[test]
fn others() {
    ok(&[("type", "none")]);
    ok(&[("type", "unix-char"), ("source", "/dev/ttyS0"), ("mode", "0600")]);
    ok(&[("type", "unix-block"), ("path", "/dev/sdb"), ("limits.read", "1MB")]);
    ok(&[("type", "usb"), ("vendorid", "1d6b")]);
    ok(&[("type", "gpu")]);
    ok(&[("type", "gpu"), ("gputype", "mig"), ("mig.gi", "1"), ("mig.ci", "2")]);
    ok(&[("type", "infiniband"), ("nictype", "physical"), ("parent", "ib0")]);
    ok(&[("type", "tpm"), ("path", "/dev/tpm0"), ("pathrm", "/dev/tpmrm0")]);
    assert_eq!(
        bad(&[("type", "tpm"), ("path", "/dev/tpm0")]),
        "Invalid value for device option \"pathrm\": Required value"
    );
    assert_eq!(
        bad(&[("type", "unix-char"), ("source", "/dev/../etc/shadow")]),
        "Invalid value for device option \"source\": Path needs to be in /dev"
    );
    assert_eq!(
        bad(&[("type", "unix-char"), ("path", "/dev/x"), ("limits.read", "1MB")]),
        "I/O limits are only supported for unix-block devices"
    );
    assert_eq!(bad(&[("type", "unix-hotplug")]), "Unix hotplug devices require a vendorid, productid or PCI address");
    assert_eq!(bad(&[("type", "gpu"), ("pci", "01:00.0"), ("id", "1")]), "Cannot use \"id\" when \"pci\" is set");
    assert_eq!(bad(&[("type", "pci"), ("address", "01:00.0")]), "Unsupported device type");
    assert_eq!(bad(&[("type", "gpu"), ("gputype", "mdev"), ("mdev", "x")]), "Unsupported device type");
    assert_eq!(bad(&[]), "Unsupported device type");
    assert!(validate("a/b", &device(&[("type", "none")]), InstanceType::Container).is_err());
}

#[test]
fn proxies() {
    use proxy::{Address, Ports};
    let p = |listen, connect, more: &[(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
        [&[("type", "proxy"), ("listen", listen), ("connect", connect)], more].concat()
    };
    ok(&p("tcp:0.0.0.0:80,90-91", "tcp:127.0.0.1:80", &[]));
    ok(&p("unix:/run/x", "unix:@y", &[("mode", "0600")]));
    ok(&p("tcp:[::]:80", "tcp:[::1]:80", &[("nat", "true")]));
    assert!(bad(&p("tcp:0.0.0.0:80", "tcp:127.0.0.1:80-81", &[])).starts_with("Mismatch"));
    assert!(bad(&p("tcp:0.0.0.0:80", "udp:127.0.0.1:80", &[("nat", "true")])).starts_with("Proxying tcp <-> udp"));
    assert!(bad(&p("tcp:1.2.3.4:80", "tcp:[::1]:80", &[("nat", "true")])).starts_with("Cannot mix"));
    assert!(bad(&p("tcp:0.0.0.0:80", "tcp:127.0.0.1:80", &[("uid", "1")])).starts_with("Only proxy devices"));
    assert!(bad(&p("sctp:1:2", "tcp:127.0.0.1:80", &[])).contains("Unknown protocol type"));
    assert!(bad(&[("type", "proxy"), ("listen", "tcp:1.2.3.4:1")]).contains("Required value"));
    for wrong in [
        "tcp:",
        "tcp:1.2.3.4",
        "tcp:1.2.3.4:70000",
        "tcp:1.2.3.4:5-5",
        "tcp:::1:80",
        "tcp:1.2.3.4:+1",
        "tcp:host:1",
        "unix:",
    ] {
        assert!(Address::parse(wrong).is_err(), "{wrong}");
    }
    let any = Address::Tcp(Ports { ip: None, ports: vec![80] });
    assert_eq!(Address::parse("tcp::80").expect("address"), any);
}

#[test]
fn together() {
    let root = device(&[("type", "disk"), ("path", "/"), ("pool", "p")]);
    let nic = |name| device(&[("type", "nic"), ("nictype", "p2p"), ("name", name)]);
    let set = |entries: &[(&str, Device)]| -> Devices {
        entries.iter().map(|(k, v)| ((*k).to_string(), v.clone())).collect()
    };
    let none = Devices::new();
    let all = |expanded: &Devices| validate_all(&none, Some(expanded), Some(InstanceType::Container));
    assert!(all(&set(&[("root", root.clone()), ("a", nic("eth0"))])).is_ok());
    assert_eq!(
        all(&none).expect_err("no root").to_string(),
        "Failed detecting root disk device: No root device could be found"
    );
    let two = all(&set(&[("root", root.clone()), ("r2", root.clone())])).expect_err("two");
    assert_eq!(two.to_string(), "Failed detecting root disk device: More than one root device found");
    let twins = all(&set(&[("root", root.clone()), ("a", nic("eth0")), ("b", nic("eth0"))])).expect_err("twins");
    assert_eq!(twins.to_string(), "Duplicate NIC name detected \"eth0\"");
    // A device for the other type may come in by a profile, but not be the instance's own.
    let pci = device(&[("type", "pci"), ("address", "01:00.0")]);
    assert!(all(&set(&[("root", root.clone()), ("card", pci.clone())])).is_ok());
    assert!(validate_all(&set(&[("card", pci)]), None, Some(InstanceType::Container)).is_err());
    let src = device(&[("type", "disk"), ("source", "/a"), ("path", "/b")]);
    let same = validate_all(&set(&[("x", src.clone()), ("y", src)]), None, None).expect_err("same path");
    assert_eq!(same.to_string(), "More than one disk device uses the same path \"/b\"");
    let routed = device(&[("type", "nic"), ("nictype", "routed")]);
    let two = all(&set(&[("root", root), ("a", routed.clone()), ("b", routed)])).expect_err("two gateways");
    assert_eq!(two.to_string(), "Existing NIC \"a\" already uses \"ipv4.gateway\" in auto mode");
}

/// As for the keys: no option takes a control character but free text.
#[test]
fn no_option_takes_control_characters() {
    for key in kinds().flat_map(|k| k.options.iter()) {
        assert!(
            !key.value.is_text() && key.value.check("a\nb").is_err() && key.value.check("a\u{1b}b").is_err(),
            "{}",
            key.name
        );
    }
}

proptest! {
    // Each case walks every option of every kind.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn never_panics(kind in "nic|disk|proxy|gpu|usb|unix-char|x", sub in "bridged|routed|ipvlan|", value in "\\PC{0,12}|(tcp|unix):[0-9.:\\[\\],-]{0,12}") {
        for key in kinds().flat_map(|k| k.options.iter()) {
            let d = device(&[("type", &kind), ("nictype", &sub), ("listen", &value), ("connect", &value), (key.name, &value)]);
            let _ = validate("d", &d, InstanceType::Container);
        }
    }
}
