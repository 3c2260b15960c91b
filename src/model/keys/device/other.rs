//! `none`, `tpm` and `pci`.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::value::Value;
use super::Kind;
use crate::error::Result;
use crate::model::instance::{Device, InstanceType};

keys! {
    TPM_PATH: "path", Both, Value::Line, "Device node in the container" => long("Required for containers.");
    TPM_PATHRM: "pathrm", Both, Value::Line, "Device node of the resource manager in the container"
        => long("Required for containers.");
    PCI_ADDRESS: "address", Vm, Value::Checked("PCI address", checks::pci_address), "PCI address on the host";
    PCI_FIRMWARE: "firmware", Vm, Value::Bool, "Show the device's option ROM to the guest" => default("true");
}

/// Masks a device of a profile.
static NONE: Kind = Kind {
    device: "none",
    sub: "",
    scope: Scope::Both,
    hotplug: Some(Scope::Both),
    options: &[],
    required: &[],
    updatable: &[],
    check: super::no_rules,
};

static TPM: Kind = Kind {
    device: "tpm",
    sub: "",
    scope: Scope::Both,
    hotplug: Some(Scope::Container),
    options: &[&TPM_PATH, &TPM_PATHRM],
    required: &[],
    updatable: &[],
    check: check_tpm,
};

static PCI: Kind = Kind {
    device: "pci",
    sub: "",
    scope: Scope::Vm,
    hotplug: None,
    options: &[&PCI_ADDRESS, &PCI_FIRMWARE],
    required: &[&PCI_ADDRESS],
    updatable: &[],
    check: super::no_rules,
};

pub(super) static KINDS: &[&Kind] = &[&NONE, &TPM, &PCI];

fn check_tpm(device: &Device, kind: Option<InstanceType>) -> Result<()> {
    if kind != Some(InstanceType::Container) {
        return Ok(());
    }
    match [&TPM_PATH, &TPM_PATHRM].iter().find(|k| k.get(device).is_none()) {
        None => Ok(()),
        Some(key) => Err(super::required(key)),
    }
}
