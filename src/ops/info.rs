//! `info`: all there is to say about one instance, and about the host.

use super::list::{self, Needs, Row};
use super::list_filter::Filter;
use super::{load, logs};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::view::{Environment, InstanceFull, ServerPut, ServerView, StorageDriver};
use crate::storage;
use crate::store::Store;
use std::collections::BTreeSet;

/// An instance with its state and snapshots.
///
/// # Errors
/// Not found; its record is damaged.
pub fn instance(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<InstanceFull> {
    // The error tells what is damaged; a list would only say that something is.
    store.instance(project, name)?.ok_or_else(load::not_found)?;
    store.volatile(project, name)?;
    let exact = [Filter::parse(&format!("name={name}"))?];
    let needs = Needs { volatile: true, expanded: true, snapshots: false, addresses: true, state: true, disk: true };
    let rows = list::list(store, std::slice::from_ref(project), &exact, needs)?;
    let row: &Row = rows.iter().find(|row| row.name == *name).ok_or_else(load::not_found)?;
    row.object(store, true)
}

/// Name of the log that is shown when none is named.
pub const DEFAULT_LOG: &str = logs::MONITOR;

/// A log of an instance by its file name. Incus's name for the runtime's log gives the monitor's.
///
/// # Errors
/// Not found: the instance, or a log of that name.
pub fn log(store: &Store, project: &ProjectName, name: &InstanceName, file: &str) -> Result<String> {
    let bytes = match file {
        DEFAULT_LOG | "lxc.log" => logs::monitor(store, project, name)?,
        logs::CONSOLE => logs::console(store, project, name)?,
        other => return Err(Error::not_found(format!("Log file {other:?} not found"))),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Who asks, for [`server`].
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The project in use.
    pub project: &'a str,
    /// User id.
    pub uid: u32,
}

/// The host and the program, in the form Incus describes its server in.
///
/// # Errors
/// The server's record is damaged.
pub fn server(store: &Store, asking: Asking<'_>) -> Result<ServerView> {
    Ok(ServerView {
        put: ServerPut { config: store.server()?.config },
        api_status: "stable".into(),
        api_version: "1.0".into(),
        auth: "trusted".into(),
        public: false,
        auth_methods: Vec::new(),
        auth_user_name: user_name(asking.uid),
        auth_user_method: "unix".into(),
        environment: environment(store, asking.project)?,
    })
}

/// The user's name by /etc/passwd, else the number; NSS is not for a static program.
fn user_name(uid: u32) -> String {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let line = table.lines().find(|l| l.split(':').nth(2) == Some(number.as_str()));
    line.and_then(|l| l.split(':').next()).map_or(number.clone(), str::to_string)
}

fn environment(store: &Store, project: &str) -> Result<Environment> {
    // proc_sys_kernel(5); the same as uname(2).
    let kernel = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{file}")).unwrap_or_default();
        text.trim().to_string()
    };
    let machine = std::env::consts::ARCH.to_string();
    let (os_name, os_version) = os_release();
    let version = env!("CARGO_PKG_VERSION").to_string();
    let used: BTreeSet<String> = store.pools()?.into_iter().filter_map(|(_, p)| Some(p.ok()?.driver)).collect();
    let one = |name: &&str| StorageDriver { name: (*name).to_string(), version: "1".into(), remote: false };
    // What the floor (Linux 6.1) has and is used.
    let features = ["idmapped_mounts", "pidfds", "seccomp_listener"].map(|f| (f.to_string(), "true".to_string()));
    Ok(Environment {
        architectures: architectures(&machine),
        driver: "stapes".into(),
        driver_version: version.clone(),
        firewall: "nftables".into(),
        kernel: kernel("ostype"),
        kernel_architecture: machine,
        kernel_features: Config::from(features),
        kernel_version: kernel("osrelease"),
        os_name,
        os_version,
        project: project.to_string(),
        server: "stapes".into(),
        server_event_mode: "full-mesh".into(),
        server_name: kernel("hostname"),
        server_version: version,
        storage: used.iter().map(String::as_str).collect::<Vec<_>>().join(" | "),
        storage_version: used.iter().map(|_| "1").collect::<Vec<_>>().join(" | "),
        storage_supported_drivers: storage::DRIVERS.iter().map(one).collect(),
        ..Environment::default()
    })
}

/// The host's own architecture and the one it also runs.
fn architectures(machine: &str) -> Vec<String> {
    let also = match machine {
        "x86_64" => Some("i686"),
        "aarch64" => Some("armv8l"),
        _ => None,
    };
    std::iter::once(machine).chain(also).map(str::to_string).collect()
}

/// Name and version of the distribution (os-release(5)).
fn os_release() -> (String, String) {
    let read = |path| std::fs::read_to_string(path).ok();
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_string()
    };
    (field("NAME"), field("VERSION_ID"))
}
