//! Graphics cards, by `gputype`.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::value::Value;
use super::Kind;
use crate::error::{Error, Result};
use crate::model::instance::{Device, InstanceType};

const HEX4: Value = Value::Checked("four hexadecimal digits", checks::device_id);
const ID_VALUE: Value = Value::Checked("id", checks::unix_id);

keys! {
    GPUTYPE: "gputype", Both, Value::OneOf(&["physical", "mdev", "mig", "sriov", "native-context"]), "How to pass the card on"
        => default("physical");
    VENDORID: "vendorid", Both, HEX4, "Vendor";
    PRODUCTID: "productid", Both, HEX4, "Product";
    ID: "id", Both, Value::Line, "DRM number of the card";
    PCI: "pci", Both, Value::Checked("PCI address", checks::pci_address), "PCI address";
    UID: "uid", Container, ID_VALUE, "Owner of the device nodes" => default("0");
    GID: "gid", Container, ID_VALUE, "Group of the device nodes" => default("0");
    MODE: "mode", Container, Value::Checked("octal mode", checks::octal_mode), "Mode of the device nodes" => default("0660");
    MDEV: "mdev", Vm, Value::Line, "Profile of the mediated device";
    MIG_GI: "mig.gi", Container, Value::Uint8, "MIG GPU instance";
    MIG_CI: "mig.ci", Container, Value::Uint8, "MIG compute instance";
    MIG_UUID: "mig.uuid", Container, Value::Checked("UUID", checks::mig_uuid), "MIG device";
    BLOB_SIZE: "blob.size", Vm, Value::Size, "Size of the window for blob resources" => default("2GiB");
}

const fn kind(sub: &'static str, scope: Scope, options: &'static [&'static Key]) -> Kind {
    Kind { device: "gpu", sub, scope, hotplug: None, options, required: &[], updatable: &[], check }
}

static PHYSICAL: Kind = Kind {
    hotplug: Some(Scope::Container),
    ..kind("physical", Scope::Both, &[&VENDORID, &PRODUCTID, &ID, &PCI, &UID, &GID, &MODE])
};
static MDEV_KIND: Kind =
    Kind { required: &[&MDEV], ..kind("mdev", Scope::Vm, &[&MDEV, &VENDORID, &PRODUCTID, &ID, &PCI]) };
static MIG: Kind = Kind {
    check: check_mig,
    ..kind("mig", Scope::Container, &[&VENDORID, &PRODUCTID, &ID, &PCI, &MIG_GI, &MIG_CI, &MIG_UUID])
};
static SRIOV: Kind = kind("sriov", Scope::Vm, &[&VENDORID, &PRODUCTID, &ID, &PCI]);
static NATIVE_CONTEXT: Kind = kind("native-context", Scope::Vm, &[&VENDORID, &PRODUCTID, &ID, &PCI, &BLOB_SIZE]);

pub(super) static KINDS: &[&Kind] = &[&PHYSICAL, &MDEV_KIND, &MIG, &SRIOV, &NATIVE_CONTEXT];

fn check(device: &Device, _: Option<InstanceType>) -> Result<()> {
    super::at_most_one(device, &[&PCI, &ID, &PRODUCTID])?;
    super::at_most_one(device, &[&PCI, &ID, &VENDORID])
}

fn check_mig(device: &Device, kind: Option<InstanceType>) -> Result<()> {
    check(device, kind)?;
    super::at_most_one(device, &[&MIG_UUID, &MIG_GI])?;
    super::at_most_one(device, &[&MIG_UUID, &MIG_CI])?;
    let both = MIG_GI.get(device).is_some() && MIG_CI.get(device).is_some();
    if MIG_UUID.get(device).is_some() || both {
        return Ok(());
    }
    Err(Error::invalid("Either \"mig.uuid\" or both \"mig.gi\" and \"mig.ci\" must be set"))
}
