//! `volatile.*`: what the program itself writes down about an instance. Users may read these keys.

use super::checks;
use super::key::{Key, Live::Record, Scope};
use super::value::Value;

const UUID: Value = Value::Checked("UUID", checks::uuid);
const ADDRESSES: Value = Value::ListOf(&Value::Checked("IP address", checks::ip));

key_table! {
    VOLATILE_APPLY_NVRAM: "volatile.apply_nvram", Vm, Value::Bool, "Rebuild the firmware's variables at the next start" => live(Record, Record);
    VOLATILE_APPLY_TEMPLATE: "volatile.apply_template", Both, Value::Line, "Templates to run at the next start: create, copy or rename" => live(Record, Record);
    VOLATILE_BASE_IMAGE: "volatile.base_image", Both, Value::Line, "Fingerprint of the image the instance was made from" => live(Record, Record);
    VOLATILE_CLOUD_INIT_INSTANCE_ID: "volatile.cloud-init.instance-id", Both, UUID, "Identity cloud-init sees" => live(Record, Record);
    VOLATILE_CLUSTER_GROUP: "volatile.cluster.group", Both, Value::Line, "Cluster group chosen at creation" => live(Record, Record);
    VOLATILE_CONTAINER_OCI: "volatile.container.oci", Container, Value::Bool, "The container was made from an application image" => live(Record, Record);
    VOLATILE_CPU_NODES: "volatile.cpu.nodes", Both, Value::Checked("NUMA node set", checks::cpu_nodes), "NUMA nodes chosen for `balanced`" => live(Record, Record);
    VOLATILE_EVACUATE_ORIGIN: "volatile.evacuate.origin", Both, Value::Line, "Cluster member before an evacuation" => live(Record, Record);
    VOLATILE_IDMAP_BASE: "volatile.idmap.base", Container, Value::Line, "First host id of the id map, 0 unless isolated" => live(Record, Record);
    VOLATILE_IDMAP_CURRENT: "volatile.idmap.current", Container, Value::Line, "Id map in use" => live(Record, Record);
    VOLATILE_IDMAP_NEXT: "volatile.idmap.next", Container, Value::Line, "Id map for the next start" => live(Record, Record);
    VOLATILE_LAST_STATE_AGENT: "volatile.last_state.agent", Both, Value::Line, "Whether the agent had started" => live(Record, Record);
    VOLATILE_LAST_STATE_IDMAP: "volatile.last_state.idmap", Container, Value::Line, "Id map of the files on disk" => live(Record, Record);
    VOLATILE_LAST_STATE_POWER: "volatile.last_state.power", Both, Value::Line, "Whether the instance was to run" => live(Record, Record);
    VOLATILE_LAST_STATE_READY: "volatile.last_state.ready", Both, Value::Bool, "Whether the guest had called itself ready" => live(Record, Record);
    VOLATILE_REBALANCE_LAST_MOVE: "volatile.rebalance.last_move", Both, Value::Int, "Time of the last automatic move" => live(Record, Record);
    VOLATILE_SELINUX_CONTEXT: "volatile.selinux.context", Both, Value::Line, "SELinux context in use" => live(Record, Record);
    VOLATILE_UUID: "volatile.uuid", Both, UUID, "Identity of the instance" => live(Record, Record);
    VOLATILE_UUID_GENERATION: "volatile.uuid.generation", Both, UUID, "Identity that changes when the instance goes back in time" => live(Record, Record);
    VOLATILE_VM_BOOT_STATE: "volatile.vm.boot_state", Vm, Value::Line, "Firmware's boot state to restore" => live(Record, Record);
    VOLATILE_VM_DEFINITION: "volatile.vm.definition", Vm, Value::Line, "Machine definition in use" => live(Record, Record);
    VOLATILE_VM_HOTPLUG_MEMORY: "volatile.vm.hotplug.memory", Vm, Value::Line, "Memory added live" => live(Record, Record);
    VOLATILE_VM_NEEDS_RESET: "volatile.vm.needs_reset", Vm, Value::Bool, "Restart QEMU at the next reboot" => live(Record, Record);
    VOLATILE_VM_RTC_ADJUSTMENT: "volatile.vm.rtc_adjustment", Vm, Value::Int, "Seconds the guest moved its clock by in this run" => live(Record, Record);
    VOLATILE_VM_RTC_OFFSET: "volatile.vm.rtc_offset", Vm, Value::Int, "Seconds the guest's clock is off" => live(Record, Record);
    VOLATILE_VSOCK_ID: "volatile.vsock_id", Vm, Value::Int, "vsock context id of the last start" => live(Record, Record);

    VOLATILE_DEVICE_APPLY_QUOTA: "apply_quota", Both, Value::Line, "Disk size to set at the next start" => device(), live(Record, Record);
    VOLATILE_DEVICE_CEPH_RBD: "ceph_rbd", Both, Value::Line, "Mapped Ceph device" => device(), live(Record, Record);
    VOLATILE_DEVICE_HOST_NAME: "host_name", Both, Value::Line, "Interface on the host" => device(), live(Record, Record);
    VOLATILE_DEVICE_HWADDR: "hwaddr", Both, Value::Line, "MAC address, where the device says none" => device(), live(Record, Record);
    VOLATILE_DEVICE_IO_BUS: "io.bus", Both, Value::Line, "Bus in use" => device(), live(Record, Record);
    VOLATILE_DEVICE_NAME: "name", Both, Value::Line, "Interface inside, where the device says none" => device(), live(Record, Record);
    VOLATILE_DEVICE_MIG_UUID: "mig.uuid", Both, Value::Line, "NVIDIA MIG instance in use" => device(), live(Record, Record);
    VOLATILE_DEVICE_VGPU_UUID: "vgpu.uuid", Both, Value::Line, "Virtual GPU in use" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_CREATED: "last_state.created", Both, Value::Line, "Whether the host interface was made by us" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_HWADDR: "last_state.hwaddr", Both, Value::Line, "MAC address to give back" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_IP_ADDRESSES: "last_state.ip_addresses", Both, ADDRESSES, "Addresses last seen" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_MTU: "last_state.mtu", Both, Value::Line, "MTU to give back" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_PCI_DRIVER: "last_state.pci.driver", Both, Value::Line, "Driver to give the PCI device back to" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_PCI_PARENT: "last_state.pci.parent", Both, Value::Line, "Host interface of the PCI device" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_PCI_SLOT_NAME: "last_state.pci.slot.name", Both, Value::Line, "Address of the PCI device" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_USB_BUS: "last_state.usb.bus", Both, Value::Line, "Bus of the USB device" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_USB_DEVICE: "last_state.usb.device", Both, Value::Line, "Number of the USB device" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VDPA_NAME: "last_state.vdpa.name", Both, Value::Line, "vDPA device in use" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VF_HWADDR: "last_state.vf.hwaddr", Both, Value::Line, "Virtual function's MAC address to give back" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VF_ID: "last_state.vf.id", Both, Value::Line, "Virtual function in use" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VF_PARENT: "last_state.vf.parent", Both, Value::Line, "Interface the virtual function belongs to" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VF_SPOOFCHECK: "last_state.vf.spoofcheck", Both, Value::Line, "Virtual function's spoof check to give back" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VF_TRUSTED: "last_state.vf.trusted", Both, Value::Line, "Virtual function's trust to give back" => device(), live(Record, Record);
    VOLATILE_DEVICE_LAST_STATE_VF_VLAN: "last_state.vf.vlan", Both, Value::Line, "Virtual function's VLAN to give back" => device(), live(Record, Record);
}

/// Values of [`VOLATILE_LAST_STATE_POWER`] and [`VOLATILE_APPLY_TEMPLATE`].
pub mod volatile_value {
    /// The instance was to run.
    pub const POWER_RUNNING: &str = "RUNNING";
    /// The instance was to be stopped.
    pub const POWER_STOPPED: &str = "STOPPED";
    /// New from an image.
    pub const TEMPLATE_CREATE: &str = "create";
    /// Copied from another instance.
    pub const TEMPLATE_COPY: &str = "copy";
    /// Renamed.
    pub const TEMPLATE_RENAME: &str = "rename";
    /// Id map of files with unshifted ids, or no id map.
    pub const IDMAP_NONE: &str = "[]";
}

/// Does a copy of an instance keep this key? All but volatile ones, of which three stay: the firmware mark, the base image,
/// and, on the same host, the id map of the files.
pub fn kept_in_copy(name: &str, remote: bool) -> bool {
    !super::is_volatile(name)
        || name == VOLATILE_APPLY_NVRAM.name
        || name == VOLATILE_BASE_IMAGE.name
        || (name == VOLATILE_LAST_STATE_IDMAP.name && !remote)
}
