//! `cloud-init.*` and its older forms below `user.`: seeds for the guest's first boot.

use super::checks;
use super::key::{
    Key,
    Live::{NextStart, Record},
    Scope,
};
use super::value::Value;

const NETWORK: Value = Value::CheckedText("YAML", checks::yaml_mapping);
const USER_DATA: Value = Value::CheckedText("cloud-init user data", checks::cloud_init);

key_table! {
    CLOUD_INIT_NETWORK_CONFIG: "cloud-init.network-config", Both, NETWORK, "Network configuration for cloud-init"
        => live(NextStart, Record), long("Unset: DHCP on eth0. A change makes cloud-init treat the next boot as a first one.");
    CLOUD_INIT_USER_DATA: "cloud-init.user-data", Both, USER_DATA, "User data for cloud-init"
        => live(NextStart, Record), long("A change makes cloud-init treat the next boot as a first one.");
    CLOUD_INIT_VENDOR_DATA: "cloud-init.vendor-data", Both, USER_DATA, "Vendor data for cloud-init"
        => live(NextStart, Record), long("A change makes cloud-init treat the next boot as a first one.");
    USER_META_DATA: "user.meta-data", Both, Value::Text, "Meta data for cloud-init, appended to the generated one"
        => live(NextStart, Record);
    USER_NETWORK_CONFIG: "user.network-config", Both, Value::Text, "Older form of cloud-init.network-config"
        => live(NextStart, Record);
    USER_USER_DATA: "user.user-data", Both, Value::Text, "Older form of cloud-init.user-data" => live(NextStart, Record);
    USER_VENDOR_DATA: "user.vendor-data", Both, Value::Text, "Older form of cloud-init.vendor-data"
        => live(NextStart, Record);
}

/// The keys whose change gives the instance a new cloud-init identity.
pub static CLOUD_INIT_SEEDS: [&Key; 6] = [
    &CLOUD_INIT_NETWORK_CONFIG,
    &CLOUD_INIT_USER_DATA,
    &CLOUD_INIT_VENDOR_DATA,
    &USER_NETWORK_CONFIG,
    &USER_USER_DATA,
    &USER_VENDOR_DATA,
];
