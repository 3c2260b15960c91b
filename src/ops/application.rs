//! Application (OCI) containers: no init system is booted in them, they run one program.
//!
//! What their image says about it (`config.json`, [`crate::image::bundle`]) becomes `environment.*` and `oci.*` keys when the
//! instance is made, as in Incus; the keys decide from then on. Groups, tmpfs mounts and the stop signal have no key: they are
//! read at each start. Addresses are given from outside before the program starts ([`super::run_network`]).

use super::load::Loaded;
use crate::base::idmap::{IdMap, Kind};
use crate::base::names::Fingerprint;
use crate::container::build::Settings;
use crate::container::ops::DEFAULT_PATH;
use crate::container::plan::Init;
use crate::error::{Context, Error, Result};
use crate::image::bundle::{self, Bundle};
use crate::model::attach::{Mount, MountSource, Rootfs};
use crate::model::expand::Expanded;
use crate::model::instance::{Config, Instance};
use crate::model::keys::{self, Key};
use crate::storage::Driver;
use crate::sys::path::{self, Links};
use crate::sys::xattr;
use std::os::fd::AsFd;
use std::path::Path;

/// The value of the image property `type` that makes an application container.
const OCI: &str = "oci";
/// First words of an entry point that is an init system: it becomes process 1 itself, as in Incus.
const INITS: [&str; 4] = ["/init", "/sbin/init", "/s6-init", "/usr/bin/init"];
/// Keys that only an application container can have.
static OWN_KEYS: [&Key; 7] = [
    &keys::OCI_ENTRYPOINT,
    &keys::OCI_CWD,
    &keys::OCI_UID,
    &keys::OCI_GID,
    &keys::OCI_DNS_NAMESERVERS,
    &keys::OCI_DNS_SEARCH,
    &keys::OCI_DNS_DOMAIN,
];
/// The kernel's last id of a group that may send ICMP echoes.
const LAST_GROUP: u32 = 2_147_483_647;

/// Does an instance with this (local) configuration come from an application image?
pub fn is_image(config: &Config) -> bool {
    keys::IMAGE.get_of(config, "type") == Some(OCI)
}

/// Was it made as an application container?
///
/// # Errors
/// The record is damaged.
pub fn is_instance(loaded: &Loaded) -> Result<bool> {
    keys::VOLATILE_CONTAINER_OCI.bool(&loaded.volatile.config)
}

/// Turns what the image, unpacked in the pool of `driver`, says into keys of an instance that is being made; what the user or a
/// profile has set stays.
///
/// # Errors
/// The image has no `config.json` or a bad one.
pub fn adopt(
    driver: &dyn Driver,
    image: &Fingerprint,
    instance: &mut Instance,
    expanded: &mut Expanded,
    volatile: &mut Config,
) -> Result<()> {
    let home = path::open_root(&driver.image_metadata(image))?;
    let bundle = bundle::read(home.as_fd())?
        .ok_or_else(|| Error::invalid("Bad application image: it has no \"config.json\""))?;
    keys::VOLATILE_CONTAINER_OCI.set(volatile, "true");
    let process = &bundle.process;
    let variables = process.env.iter().filter_map(|variable| variable.split_once('='));
    let mut all: Vec<(String, String)> =
        variables.map(|(name, value)| (keys::ENVIRONMENT.of(name), value.to_string())).collect();
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    all.extend([
        (keys::OCI_ENTRYPOINT.name.to_string(), shell_words::join(&process.args)),
        (keys::OCI_CWD.name.to_string(), cwd.to_string()),
        (keys::OCI_UID.name.to_string(), process.user.uid.to_string()),
        (keys::OCI_GID.name.to_string(), process.user.gid.to_string()),
    ]);
    for (key, value) in all {
        if !expanded.config.contains_key(&key) {
            expanded.config.insert(key.clone(), value.clone());
            instance.config.insert(key, value);
        }
    }
    keys::validate_config(&instance.config, instance.kind).context("Bad application image")
}

/// What an application container is to run.
#[derive(Debug)]
pub struct Application {
    bundle: Bundle,
}

/// The application of an instance; none for a system container.
///
/// # Errors
/// What the image says can't be read. Invalid: a key that only an application container can have.
pub fn of(driver: &dyn Driver, loaded: &Loaded) -> Result<Option<Application>> {
    if !is_instance(loaded)? {
        let set = OWN_KEYS.into_iter().find(|key| key.get(&loaded.expanded.config).is_some());
        return match set {
            None => Ok(None),
            Some(key) => Err(Error::invalid(format!("\"{}\" is for application (OCI) containers only", key.name))
                .hint(format!("unset it: stapes config unset <instance> {}", key.name))),
        };
    }
    let home = path::open_root(&driver.metadata(&loaded.volume()?)?)?;
    Ok(Some(Application { bundle: bundle::read(home.as_fd())?.unwrap_or_default() }))
}

impl Application {
    /// `system`, which are the settings of a system container, for this application.
    ///
    /// # Errors
    /// The entry point is missing or has a quote that does not end.
    pub fn settings(&self, system: Settings, config: &Config) -> Result<Settings> {
        let args = self.words(config)?;
        let uid = keys::OCI_UID.u32(config)?.unwrap_or(self.bundle.process.user.uid);
        let mut sysctls = ports_and_pings(system.idmap.as_ref());
        sysctls.extend(system.sysctls);
        let mut env = system.env;
        let mut default = |name: &str, value: &str| {
            if !env.iter().any(|e| e.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
                env.push(format!("{name}={value}"));
            }
        };
        default("PATH", DEFAULT_PATH);
        default("TERM", "xterm");
        default("HOME", if uid == 0 { "/root" } else { "/" });
        Ok(Settings {
            args,
            env,
            cwd: keys::OCI_CWD.get(config).unwrap_or("/").into(),
            uid,
            gid: keys::OCI_GID.u32(config)?.unwrap_or(self.bundle.process.user.gid),
            groups: self.bundle.process.user.additional_gids.clone(),
            sysctls,
            ..system
        })
    }

    /// Its entry point with the arguments.
    ///
    /// # Errors
    /// As [`Application::settings`].
    pub fn words(&self, config: &Config) -> Result<Vec<String>> {
        let words = match keys::OCI_ENTRYPOINT.get(config) {
            Some(text) => shell_words::split(text)
                .map_err(|e| Error::invalid(format!("Invalid \"{}\": {e}", keys::OCI_ENTRYPOINT.name)))?,
            None => self.bundle.process.args.clone(),
        };
        match words.first().is_none_or(String::is_empty) {
            true => Err(Error::invalid(format!("\"{}\" names no program", keys::OCI_ENTRYPOINT.name))),
            false => Ok(words),
        }
    }

    /// What is process 1: an init system, or ours with the program as its child.
    pub fn init(&self, settings: &Settings) -> Init {
        match settings.args.first().is_some_and(|program| INITS.contains(&program.as_str())) {
            true => Init::System,
            false => Init::Command { terminal: true },
        }
    }

    /// The signal that asks it to shut down.
    pub fn stop_signal(&self) -> i32 {
        self.bundle.stop_signal()
    }

    /// The tmpfs mounts that it wants, and one at `/run` if `root` has nothing there; but for where `taken` has something.
    ///
    /// # Errors
    /// What the image says is no mount; the root cannot be read.
    pub fn mounts(&self, root: &Rootfs, taken: &[Mount]) -> Result<Vec<Mount>> {
        const RUN: &str = "/run";
        let mut wanted = self.bundle.tmpfs()?;
        if wanted.iter().all(|t| t.target != RUN) && is_empty(root, "run")? {
            wanted.push(bundle::Tmpfs { target: RUN.into(), size: None, mode: 0o755 });
        }
        let free = |t: &bundle::Tmpfs| taken.iter().all(|m| m.target != Path::new(&t.target));
        Ok(wanted.into_iter().filter(free).map(mount).collect())
    }
}

fn mount(tmpfs: bundle::Tmpfs) -> Mount {
    Mount {
        device: format!("tmpfs at {}", tmpfs.target),
        source: MountSource::Tmpfs { size: tmpfs.size, uid: 0, gid: 0, mode: tmpfs.mode },
        target: tmpfs.target.into(),
        readonly: false,
        shift: false,
        recursive: false,
        propagation: None,
        options: Vec::new(),
    }
}

/// Is the folder `name` at the top of a root file system empty, or not there?
fn is_empty(root: &Rootfs, name: &str) -> Result<bool> {
    let layers = match root {
        Rootfs::Dir { path } => vec![path],
        Rootfs::Overlay { lower, upper, .. } => std::iter::once(upper).chain(lower).collect(),
    };
    // Names that a layer takes away from those below it (overlayfs.rst, "whiteouts and opaque directories").
    let mut hidden = Vec::new();
    let gone = |there: &path::Stat| there.kind == path::Kind::Char && there.rdev == 0;
    for layer in layers {
        let home = path::open_root(layer)?;
        let folder = match path::open_dir(home.as_fd(), name.as_ref(), Links::Refuse) {
            Err(e) if e.errno() == Some(libc::ENOENT) => continue,
            // A link, or no folder: not ours to mount over.
            Err(e) if matches!(e.errno(), Some(libc::ELOOP | libc::ENOTDIR)) => {
                return Ok(gone(&path::stat(home.as_fd(), name.as_ref(), Links::Refuse)?));
            }
            other => other?,
        };
        for entry in path::read_dir(folder.as_fd())? {
            match path::stat(folder.as_fd(), entry.name.as_ref(), Links::Refuse) {
                Ok(there) if gone(&there) => hidden.push(entry.name),
                _ if hidden.contains(&entry.name) => {}
                _ => return Ok(false),
            }
        }
        if xattr::get(folder.as_fd(), b"trusted.overlay.opaque")?.is_some_and(|value| value == b"y") {
            break;
        }
    }
    Ok(true)
}

/// Anybody inside may take any port and ping, as Incus sets it: there is no init system that would give the right to.
fn ports_and_pings(map: Option<&IdMap>) -> std::collections::BTreeMap<String, String> {
    let last = |map: &IdMap| {
        let ends = map.entries.iter().filter(|e| e.kind == Kind::Gid).map(|e| e.ns.saturating_add(e.range - 1));
        ends.max().unwrap_or(0).min(LAST_GROUP)
    };
    let last = map.map_or(LAST_GROUP, last);
    [
        ("net.ipv4.ip_unprivileged_port_start".to_string(), "0".to_string()),
        ("net.ipv4.ping_group_range".to_string(), format!("0 {last}")),
    ]
    .into()
}
