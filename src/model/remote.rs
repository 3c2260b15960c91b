//! Remotes: servers that images come from, as the client's configuration names them.
//!
//! The shape of the file is Incus's `config.yml`; what of it does not concern images is kept as it is.

use crate::base::url::{Scheme, Url};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// This host.
pub const LOCAL: &str = "local";
/// Images that are built here from a distribution's packages.
pub const BOOTSTRAP: &str = "bootstrap";
/// The remote of a new configuration.
const IMAGES: (&str, &str) = ("images", "https://images.linuxcontainers.org");
/// Protocols of servers.
pub const SIMPLESTREAMS: &str = "simplestreams";
/// A registry of container images.
pub const OCI: &str = "oci";

/// A remote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remote {
    /// URL.
    pub addr: String,
    /// `file access` for this host, else none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_type: String,
    /// Seconds; kept for Incus.
    #[serde(skip_serializing_if = "is_zero")]
    pub keepalive: i64,
    /// The project that is in use there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// `simplestreams`, `oci`, or that of this host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Program that knows user and password of a registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credentials_helper: String,
    /// Needs no credentials.
    pub public: bool,
    /// From the file for all users.
    #[serde(skip)]
    pub global: bool,
    /// Built in.
    #[serde(rename = "static", skip)]
    pub fixed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remotes {
    /// The remote of images without one.
    #[serde(rename = "default-remote")]
    pub default: String,
    /// By name.
    pub remotes: BTreeMap<String, Remote>,
    /// Commands of the user's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// Kept for Incus.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, serde_json::Value>,
}

/// How long a remote's name may be, bytes.
const NAME_MAX: usize = 63;

impl Remotes {
    /// What counts: the user's file (none: there is none yet) over the one for all users, and what is built in.
    pub fn merged(user: Option<Self>, global: Option<Self>) -> Self {
        let fresh = || Self {
            default: LOCAL.to_string(),
            remotes: BTreeMap::from([(IMAGES.0.to_string(), server(IMAGES.1, SIMPLESTREAMS))]),
            ..Self::default()
        };
        let mut all = user.unwrap_or_else(fresh);
        for (name, remote) in global.map(|g| g.remotes).unwrap_or_default() {
            all.remotes.entry(name).or_insert(Remote { global: true, ..remote });
        }
        let project = all.remotes.remove(LOCAL).map(|there| there.project).unwrap_or_default();
        let own = Remote { auth_type: "file access".to_string(), project, ..built_in("unix://", "incus") };
        all.remotes.insert(LOCAL.to_string(), own);
        all.remotes.insert(BOOTSTRAP.to_string(), Remote { public: true, ..built_in("bootstrap:", BOOTSTRAP) });
        if !all.remotes.contains_key(&all.default) {
            all.default = LOCAL.to_string();
        }
        all
    }

    /// The project that was switched to on this host.
    pub fn project(&self) -> Option<&str> {
        self.remotes.get(LOCAL).map(|own| own.project.as_str()).filter(|project| !project.is_empty())
    }

    /// Switches to a project on this host.
    pub fn switch_project(&mut self, project: &str) {
        if let Some(own) = self.remotes.get_mut(LOCAL) {
            own.project = if project == "default" { String::new() } else { project.to_string() };
        }
    }

    /// What of it belongs into the user's file. Incus knows no `bootstrap`.
    #[must_use]
    pub fn own(&self) -> Self {
        let mut own = self.clone();
        own.remotes.retain(|name, remote| !remote.global && name != BOOTSTRAP);
        own
    }

    /// A remote.
    ///
    /// # Errors
    /// NotFound.
    pub fn get(&self, name: &str) -> Result<&Remote> {
        self.remotes.get(name).ok_or_else(|| Error::not_found(format!("The remote \"{name}\" doesn't exist")))
    }

    /// Adds a remote.
    ///
    /// # Errors
    /// Exists; a bad name, address or protocol.
    pub fn add(&mut self, name: &str, remote: Remote) -> Result<()> {
        if let Some(there) = self.remotes.get(name) {
            return Err(Error::exists(format!("Remote {name} exists as <{}>", there.addr)));
        }
        check_name(name)?;
        check(&remote)?;
        self.remotes.insert(name.to_string(), remote);
        Ok(())
    }

    /// Gives a remote another name.
    ///
    /// # Errors
    /// NotFound, Exists; it is built in or for all users.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.changeable(from)?;
        if self.remotes.contains_key(to) {
            return Err(Error::exists(format!("Remote {to} already exists")));
        }
        check_name(to)?;
        let remote = self.remotes.remove(from).unwrap_or_default();
        self.remotes.insert(to.to_string(), remote);
        if self.default == from {
            self.default = to.to_string();
        }
        Ok(())
    }

    /// Removes a remote.
    ///
    /// # Errors
    /// NotFound; it is built in, for all users, or the default.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.changeable(name)?;
        if self.default == name {
            return Err(Error::invalid("Can't remove the default remote"));
        }
        self.remotes.remove(name);
        Ok(())
    }

    /// Gives a remote another address.
    ///
    /// # Errors
    /// NotFound; it is built in or for all users; a bad address.
    pub fn set_url(&mut self, name: &str, addr: &str) -> Result<()> {
        self.changeable(name)?;
        let changed = Remote { addr: addr.to_string(), ..self.get(name)?.clone() };
        check(&changed)?;
        self.remotes.insert(name.to_string(), changed);
        Ok(())
    }

    /// Makes a remote the default.
    ///
    /// # Errors
    /// NotFound.
    pub fn switch(&mut self, name: &str) -> Result<()> {
        if !self.remotes.contains_key(name) {
            return Err(missing(name));
        }
        self.default = name.to_string();
        Ok(())
    }

    fn changeable(&self, name: &str) -> Result<()> {
        let remote = self.remotes.get(name).ok_or_else(|| missing(name))?;
        if remote.fixed {
            return Err(Error::invalid(format!("Remote {name} is static and cannot be modified")));
        }
        if remote.global {
            return Err(Error::invalid(format!("Remote {name} is global and cannot be modified")));
        }
        Ok(())
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("Remote {name} doesn't exist"))
}

fn built_in(addr: &str, protocol: &str) -> Remote {
    Remote { addr: addr.to_string(), protocol: protocol.to_string(), fixed: true, ..Remote::default() }
}

/// A server that anyone may read.
pub fn server(addr: &str, protocol: &str) -> Remote {
    Remote { addr: addr.to_string(), protocol: protocol.to_string(), public: true, ..Remote::default() }
}

/// The name is part of file names and of words of the command line.
fn check_name(name: &str) -> Result<()> {
    if name.contains(':') {
        return Err(Error::invalid("Remote names may not contain colons"));
    }
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let dots = name.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if name.len() > NAME_MAX || dots || name.starts_with('-') || !name.chars().all(sound) {
        return Err(Error::invalid(format!("Invalid remote name {name:?}")));
    }
    Ok(())
}

/// The address of a server as a URL. Images are not fetched in the clear, as in Incus.
///
/// # Errors
/// Invalid.
pub fn check(remote: &Remote) -> Result<Url> {
    if remote.addr.is_empty() {
        return Err(Error::invalid("Remote address must not be empty"));
    }
    match remote.protocol.as_str() {
        SIMPLESTREAMS | OCI => {}
        "incus" | "" => {
            return Err(Error::unsupported("Other servers can't be used yet")
                .hint(format!("servers of images are: --protocol {SIMPLESTREAMS} or {OCI}")));
        }
        other => return Err(Error::invalid(format!("Invalid protocol: {other}"))),
    }
    let url = Url::parse(&remote.addr)?;
    if url.scheme != Scheme::Https {
        return Err(Error::invalid("Only https URLs are supported for oci and simplestreams"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(e: Result<()>) -> String {
        e.expect_err("refused").to_string()
    }

    #[test]
    fn defaults() {
        let new = Remotes::merged(None, None);
        assert_eq!(new.remotes.keys().collect::<Vec<_>>(), ["bootstrap", "images", "local"]);
        assert_eq!(new.default, "local");
        let own = new.own();
        assert_eq!(own.remotes.keys().collect::<Vec<_>>(), ["images", "local"]);
        // Who removed `images` has removed it; a default that is gone counts for nothing.
        let user = Remotes { default: "gone".into(), ..Remotes::default() };
        let global = Remotes { remotes: [("corp".to_string(), server("https://c", OCI))].into(), ..Remotes::default() };
        let mut all = Remotes::merged(Some(user), Some(global));
        assert_eq!((all.remotes.len(), all.default.as_str()), (3, "local"));
        assert!(all.remotes["corp"].global && !all.own().remotes.contains_key("corp"));
        assert_eq!(text(all.remove("corp")), "Remote corp is global and cannot be modified");
    }

    #[test]
    fn changes_and_their_refusals() {
        let mut all = Remotes::merged(None, None);
        all.add("mine", server("https://h/x", SIMPLESTREAMS)).expect("good");
        assert_eq!(text(all.add("mine", server("https://h", OCI))), "Remote mine exists as <https://h/x>");
        assert_eq!(text(all.add("a:b", server("https://h", OCI))), "Remote names may not contain colons");
        for bad in ["", "..", "a/b", "-x", "a b", &"x".repeat(64)] {
            assert!(text(all.add(bad, server("https://h", OCI))).starts_with("Invalid remote name"), "{bad}");
        }
        assert_eq!(text(all.add("a", server("", OCI))), "Remote address must not be empty");
        assert_eq!(text(all.add("a", server("https://h", "ftp"))), "Invalid protocol: ftp");
        let clear = "Only https URLs are supported for oci and simplestreams";
        assert_eq!(text(all.add("a", server("http://h", SIMPLESTREAMS))), clear);
        assert_eq!(text(all.set_url("mine", "http://h")), clear);
        all.switch("mine").expect("there");
        all.rename("mine", "yours").expect("free");
        assert_eq!(all.default, "yours");
        assert_eq!(text(all.remove("yours")), "Can't remove the default remote");
        assert_eq!(text(all.remove("local")), "Remote local is static and cannot be modified");
        assert_eq!(text(all.rename("yours", "images")), "Remote images already exists");
        assert_eq!(text(all.switch("x")), "Remote x doesn't exist");
    }
}
