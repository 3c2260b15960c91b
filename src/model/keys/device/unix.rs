//! Device nodes of the host (`unix-char`, `unix-block`, `unix-hotplug`) and USB devices.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::parse;
use super::super::value::Value;
use super::Kind;
use crate::error::{Error, Result};
use crate::model::instance::{Device, InstanceType};

const ID: Value = Value::Checked("id", checks::unix_id);
const MODE_VALUE: Value = Value::Checked("octal mode", checks::octal_mode);
const NUMBER: Value = Value::Checked("device number", checks::device_number);
const HEX4: Value = Value::Checked("four hexadecimal digits", checks::device_id);
const IO: Value = Value::Checked("bytes a second and/or iops", parse::check_io_limit);

keys! {
    SOURCE: "source", Container, Value::Checked("path below /dev", check_dev_path), "Device node on the host";
    PATH: "path", Container, Value::Line, "Device node in the instance";
    MAJOR: "major", Container, NUMBER, "Major number, if not the host node's";
    MINOR: "minor", Container, NUMBER, "Minor number, if not the host node's";
    UID: "uid", Both, ID, "Owner in the instance" => default("0");
    GID: "gid", Both, ID, "Group in the instance" => default("0");
    MODE: "mode", Both, MODE_VALUE, "Mode in the instance" => default("0660");
    REQUIRED: "required", Container, Value::Bool, "Refuse to start without the device; `false` watches for it" => default("true");
    HOTPLUG_REQUIRED: "required", Both, Value::Bool, "Refuse to start without the device" => default("false");
    LIMITS_READ: "limits.read", Container, IO, "Limit of reading, block devices only";
    LIMITS_WRITE: "limits.write", Container, IO, "Limit of writing, block devices only";
    VENDORID: "vendorid", Both, HEX4, "Vendor";
    PRODUCTID: "productid", Both, HEX4, "Product";
    PCI: "pci", Container, Value::Checked("PCI address", checks::pci_address), "PCI address";
    SERIAL: "serial", Both, Value::Line, "Serial number";
    BUSNUM: "busnum", Both, Value::Uint32, "Bus";
    DEVNUM: "devnum", Both, Value::Uint32, "Number on the bus";
    ATTACHED: "attached", Both, Value::Bool, "Whether the device is plugged in" => default("true");
}

const NODE_OPTIONS: &[&Key] =
    &[&SOURCE, &PATH, &MAJOR, &MINOR, &UID, &GID, &MODE, &REQUIRED, &LIMITS_READ, &LIMITS_WRITE];

const fn node(device: &'static str) -> Kind {
    Kind {
        device,
        sub: "",
        scope: Scope::Container,
        hotplug: Some(Scope::Container),
        options: NODE_OPTIONS,
        required: &[],
        updatable: &[],
        check,
    }
}

static CHAR: Kind = node("unix-char");
static BLOCK: Kind = node("unix-block");

static HOTPLUG: Kind = Kind {
    device: "unix-hotplug",
    sub: "",
    scope: Scope::Container,
    hotplug: Some(Scope::Container),
    options: &[&VENDORID, &PRODUCTID, &PCI, &UID, &GID, &MODE, &HOTPLUG_REQUIRED],
    required: &[],
    updatable: &[],
    check: check_hotplug,
};

static USB: Kind = Kind {
    device: "usb",
    sub: "",
    scope: Scope::Both,
    hotplug: Some(Scope::Both),
    options: &[&VENDORID, &PRODUCTID, &SERIAL, &UID, &GID, &MODE, &HOTPLUG_REQUIRED, &BUSNUM, &DEVNUM, &ATTACHED],
    required: &[],
    updatable: &[],
    check: super::no_rules,
};

pub(super) static KINDS: &[&Kind] = &[&CHAR, &BLOCK, &HOTPLUG, &USB];

fn check_dev_path(value: &str) -> Result<()> {
    let inside =
        value.strip_prefix("/dev/").is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if inside { Ok(()) } else { Err(Error::invalid("Path needs to be in /dev")) }
}

fn check(device: &Device, _: Option<InstanceType>) -> Result<()> {
    if SOURCE.get(device).is_none() && PATH.get(device).is_none() {
        return Err(Error::invalid("Unix device entry is missing the required \"source\" or \"path\" property"));
    }
    let limits: Vec<&Key> = [&LIMITS_READ, &LIMITS_WRITE].into_iter().filter(|k| k.get(device).is_some()).collect();
    if super::device_type(device) != BLOCK.device && !limits.is_empty() {
        return Err(Error::invalid("I/O limits are only supported for unix-block devices"));
    }
    for key in limits {
        let limit = key.read(device, parse::io_limit)?.unwrap_or_default();
        if limit.bytes.unwrap_or(0) == 0 && limit.iops.unwrap_or(0) == 0 {
            return Err(Error::invalid("I/O limits must be greater than zero"));
        }
    }
    Ok(())
}

fn check_hotplug(device: &Device, _: Option<InstanceType>) -> Result<()> {
    if [&VENDORID, &PRODUCTID, &PCI].iter().any(|k| k.get(device).is_some()) {
        return Ok(());
    }
    Err(Error::invalid("Unix hotplug devices require a vendorid, productid or PCI address"))
}
