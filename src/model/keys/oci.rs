//! `oci.*`: how an application container runs; filled from the image at creation.

use super::checks;
use super::key::{Key, Scope};
use super::value::Value;

key_table! {
    OCI_CWD: "oci.cwd", Container, Value::Checked("absolute path", checks::abs_path), "Working folder of the entry point";
    OCI_DNS_DOMAIN: "oci.dns.domain", Container, Value::Line, "DNS domain"
        => long("Goes to the generated resolv.conf; what DHCP says is used if unset.");
    OCI_DNS_NAMESERVERS: "oci.dns.nameservers", Container, Value::ListOf(&Value::Checked("IP address", checks::ip)),
        "DNS servers" => long("Goes to the generated resolv.conf; what DHCP says is used if unset.");
    OCI_DNS_SEARCH: "oci.dns.search", Container, Value::ListOf(&Value::Line), "DNS search domains"
        => long("Goes to the generated resolv.conf; what DHCP says is used if unset.");
    OCI_ENTRYPOINT: "oci.entrypoint", Container, Value::Text, "Entry point with its arguments, quoted as for a shell";
    OCI_GID: "oci.gid", Container, Value::Uint32, "Group id of the entry point";
    OCI_UID: "oci.uid", Container, Value::Uint32, "User id of the entry point";
}
