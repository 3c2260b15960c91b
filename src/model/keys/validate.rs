//! Whole configurations against the registry.

use super::key::Suffix;
use super::{Key, Shape, find, is_volatile};
use crate::base::boolean;
use crate::error::{Error, Result};
use crate::model::instance::{Config, InstanceType};

/// Checks the configuration of an instance, volatile keys included.
pub fn validate_config(config: &Config, kind: InstanceType) -> Result<()> {
    config.iter().try_for_each(|(k, v)| check(k, v, Some(kind)))?;
    cross_check(config)
}

/// Checks the configuration of a profile, which may be for containers, virtual machines or both.
pub fn validate_profile(config: &Config) -> Result<()> {
    for (name, value) in config {
        if is_volatile(name) {
            return Err(Error::invalid("Volatile keys can only be set on instances"));
        }
        if name.starts_with(super::IMAGE.name) {
            return Err(Error::invalid("Image keys can only be set on instances"));
        }
        check(name, value, None)?;
    }
    cross_check(config)
}

/// Checks an expanded configuration: keys for the other type may come in by a profile and are ignored.
pub fn validate_expanded(config: &Config) -> Result<()> {
    config.iter().try_for_each(|(k, v)| check(k, v, None))?;
    cross_check(config)
}

/// Checks one key and its value. `kind` none: either type.
pub fn check(name: &str, value: &str, kind: Option<InstanceType>) -> Result<()> {
    if kind == Some(InstanceType::VirtualMachine) && name.starts_with(super::LIMITS_KERNEL.name) {
        return Err(Error::invalid(format!("{name} isn't supported for VMs")));
    }
    let key = find(name).filter(|k| k.scope.covers(kind)).ok_or_else(|| unknown(name))?;
    if value.contains('\n') && key.shape == Shape::Prefix(Suffix::Environment) {
        return Err(Error::invalid("Environment variables cannot contain line breaks"));
    }
    if kind == Some(InstanceType::Container) && name == super::LIMITS_CPU.name && value.contains('=') {
        return Err(Error::invalid("CPU topology syntax for limits.cpu is only supported for virtual machines"));
    }
    key.value.check(value).map_err(|e| e.hint(format!("The key is {name:?}: {}", key.short)))
}

fn unknown(name: &str) -> Error {
    // The name comes from outside and goes to a terminal.
    let shown: String = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    Error::invalid(format!("Unknown configuration key: {shown}"))
}

/// Keys that rule each other out.
fn cross_check(config: &Config) -> Result<()> {
    for (name, _) in super::SYSTEMD_CREDENTIAL.entries(config) {
        if super::SYSTEMD_CREDENTIAL_BINARY.get_of(config, name).is_some() {
            let (one, other) = (super::SYSTEMD_CREDENTIAL.of(name), super::SYSTEMD_CREDENTIAL_BINARY.of(name));
            return Err(Error::invalid(format!("Mutually exclusive keys {one} and {other} are set")));
        }
    }
    let allow = exclusive(&super::SYSCALLS_ALLOW, config)?.is_some();
    let deny = exclusive(&super::SYSCALLS_DENY, config)?.is_some();
    let on = |value: Option<&str>| value.is_some_and(boolean::is_true);
    let deny_default = on(exclusive(&super::SYSCALLS_DENY_DEFAULT, config)?);
    let deny_compat = on(exclusive(&super::SYSCALLS_DENY_COMPAT, config)?);
    let denies = deny || deny_default || deny_compat;
    if super::RAW_SECCOMP.get(config).is_some() && (allow || denies) {
        return Err(Error::invalid("raw.seccomp is mutually exclusive with security.syscalls*"));
    }
    if allow && denies {
        return Err(Error::invalid("security.syscalls.allow is mutually exclusive with security.syscalls.deny*"));
    }
    if super::SYSCALLS_INTERCEPT_MOUNT.bool(config)? {
        let (allowed, fuse) = (&super::SYSCALLS_INTERCEPT_MOUNT_ALLOWED, &super::SYSCALLS_INTERCEPT_MOUNT_FUSE);
        super::parse::mount_filter(allowed.text(config), fuse.text(config))?;
    }
    if super::SECURITY_PRIVILEGED.bool(config)? && super::NVIDIA_RUNTIME.bool(config)? {
        return Err(Error::invalid("nvidia.runtime is incompatible with privileged containers"));
    }
    Ok(())
}

/// The value of a key that has an older name; both at once are an error.
fn exclusive<'a>(key: &Key, config: &'a Config) -> Result<Option<&'a str>> {
    let set = |name: &str| config.get(name).is_some_and(|v| !v.is_empty());
    match key.legacy {
        Some(legacy) if set(key.name) && set(legacy) => {
            Err(Error::invalid(format!("Mutually exclusive keys {} and {legacy} are set", key.name)))
        }
        _ => Ok(key.get(config)),
    }
}
