//! Addresses of objects, as `used_by` lists them: `/1.0/instances/web?project=p`.

use std::fmt::Write;

/// `/1.0/…`; `?project=` follows unless it is the default project.
pub fn object(project: &str, parts: &[&str]) -> String {
    let mut out = String::from("/1.0");
    for part in parts {
        out.push('/');
        escape(&mut out, part, b"$&+=:@");
    }
    if !matches!(project, "default" | "") {
        out.push_str("?project=");
        escape(&mut out, project, b"");
    }
    out
}

/// An instance.
pub fn instance(project: &str, name: &str) -> String {
    object(project, &["instances", name])
}

/// A snapshot of an instance.
pub fn snapshot(project: &str, instance: &str, name: &str) -> String {
    object(project, &["instances", instance, "snapshots", name])
}

/// A profile.
pub fn profile(project: &str, name: &str) -> String {
    object(project, &["profiles", name])
}

/// An image.
pub fn image(project: &str, fingerprint: &str) -> String {
    object(project, &["images", fingerprint])
}

/// A project.
pub fn project(name: &str) -> String {
    object("", &["projects", name])
}

/// A storage pool.
pub fn pool(name: &str) -> String {
    object("", &["storage-pools", name])
}

/// A custom volume.
pub fn volume(project: &str, pool: &str, name: &str) -> String {
    object(project, &["storage-pools", pool, "volumes", "custom", name])
}

/// A network.
pub fn network(project: &str, name: &str) -> String {
    object(project, &["networks", name])
}

/// A forward of a network.
pub fn network_forward(project: &str, network: &str, listen_address: &str) -> String {
    object(project, &["networks", network, "forwards", listen_address])
}

/// A network ACL.
pub fn network_acl(project: &str, name: &str) -> String {
    object(project, &["network-acls", name])
}

/// A network address set.
pub fn network_address_set(project: &str, name: &str) -> String {
    object(project, &["network-address-sets", name])
}

/// A network zone.
pub fn network_zone(project: &str, name: &str) -> String {
    object(project, &["network-zones", name])
}

/// Percent-encodes all but unreserved characters (RFC 3986) and those in `also`.
fn escape(out: &mut String, text: &str, also: &[u8]) {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) || also.contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
}
