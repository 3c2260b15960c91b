//! InfiniBand devices; the sub-type is `nictype`.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::value::Value;
use super::Kind;

const GUID: Value = Value::Checked("8 bytes", checks::infiniband_guid);

keys! {
    PARENT: "parent", Both, Value::Line, "Interface of the host";
    NAME: "name", Both, Value::Checked("interface name", checks::interface_name), "Name in the instance";
    MTU: "mtu", Both, Value::Checked("MTU", checks::mtu), "Maximum transmission unit";
    HWADDR: "hwaddr", Both, Value::Checked("8 or 20 bytes", checks::infiniband_mac), "Hardware address";
    NODE_GUID: "node_guid", Both, GUID, "GUID of the virtual function's node";
    PORT_GUID: "port_guid", Both, GUID, "GUID of the virtual function's port";
}

const REQUIRED: &[&Key] = &[&PARENT];

const fn kind(sub: &'static str, options: &'static [&'static Key]) -> Kind {
    Kind {
        device: "infiniband",
        sub,
        scope: Scope::Both,
        hotplug: Some(Scope::Container),
        options,
        required: REQUIRED,
        updatable: &[],
        check: super::no_rules,
    }
}

static PHYSICAL: Kind = kind("physical", &[&PARENT, &NAME, &MTU, &HWADDR]);
static SRIOV: Kind = kind("sriov", &[&PARENT, &NAME, &MTU, &HWADDR, &NODE_GUID, &PORT_GUID]);

pub(super) static KINDS: &[&Kind] = &[&PHYSICAL, &SRIOV];
