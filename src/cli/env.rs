//! The environment: the one place of the program that reads it (but for the shells' completion protocol, which clap reads).
//!
//! Read once at start and handed down in [`Context`](super::context::Context). `STAPES_*` counts always; when the program
//! is called as `incus`, the `INCUS_*` variables count where their `STAPES_*` twin is not set.
#![allow(clippy::disallowed_methods, reason = "this is the reader")]

use crate::remote::Folders;
use crate::store::layout::Layout;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The variables that tell programs how to reach the outside (curl(1), apt.conf(5)).
const PROXIES: [&str; 8] =
    ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];

/// What the environment says. Empty variables count as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// Called as `incus`.
    pub as_incus: bool,
    /// `STAPES_DIR`, `INCUS_DIR`: one folder for state, run, cache and log.
    pub dir: Option<PathBuf>,
    /// `STAPES_PROJECT`, `INCUS_PROJECT`.
    pub project: Option<String>,
    /// `STAPES_REMOTE`, `INCUS_REMOTE`: the default remote.
    pub remote: Option<String>,
    /// `STAPES_ALIASES`, `INCUS_ALIASES`: an alias was expanded already.
    pub in_alias: bool,
    /// `NO_COLOR` is set, or the terminal is `dumb`.
    pub no_color: bool,
    /// `TERM`, passed to `exec`.
    pub term: Option<String>,
    /// `VISUAL`, else `EDITOR`.
    pub editor: Option<String>,
    /// `PATH`, to look for an editor.
    pub path: OsString,
    /// `http_proxy` and its like, in either case, for tools that download.
    pub proxies: Vec<(OsString, OsString)>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `STAPES_CONF`, `INCUS_CONF`: the folder of the client's configuration.
    pub conf: Option<PathBuf>,
    /// `STAPES_GLOBAL_CONF`, `INCUS_GLOBAL_CONF`: the same for all users.
    pub global_conf: Option<PathBuf>,
    /// `SSL_CERT_FILE`: certificate authorities in place of the system's.
    pub authorities: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, if it is absolute.
    pub config_home: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: a file with passwords of registries, in place of the others.
    pub registry_auth: Option<PathBuf>,
    /// `DOCKER_CONFIG`: the folder of docker's client.
    pub docker_config: Option<PathBuf>,
    /// `NOTIFY_SOCKET`: where a service tells its manager how it fares.
    pub notify_socket: Option<OsString>,
}

impl Env {
    /// Reads the environment. `argv0`: the name the program was called by.
    pub fn read(argv0: &OsStr) -> Self {
        Self::from(argv0, &|name| std::env::var_os(name))
    }

    fn from(argv0: &OsStr, var: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let as_incus = Path::new(argv0).file_name().is_some_and(|name| name == "incus");
        let raw = |name: &str| var(name).filter(|value| !value.is_empty());
        let ours = |name: &str| {
            let twin = || raw(&format!("INCUS_{name}")).filter(|_| as_incus);
            raw(&format!("STAPES_{name}")).or_else(twin)
        };
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let term = raw("TERM").map(text);
        Self {
            as_incus,
            dir: ours("DIR").map(PathBuf::from),
            conf: ours("CONF").map(PathBuf::from),
            global_conf: ours("GLOBAL_CONF").map(PathBuf::from),
            authorities: raw("SSL_CERT_FILE").map(PathBuf::from),
            registry_auth: raw("REGISTRY_AUTH_FILE").map(PathBuf::from),
            docker_config: raw("DOCKER_CONFIG").map(PathBuf::from),
            config_home: raw("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute()),
            project: ours("PROJECT").map(text),
            remote: ours("REMOTE").map(text),
            in_alias: ours("ALIASES").is_some_and(|value| value == "1"),
            no_color: raw("NO_COLOR").is_some() || term.as_deref() == Some("dumb"),
            term,
            editor: raw("VISUAL").or_else(|| raw("EDITOR")).map(text),
            proxies: PROXIES.iter().filter_map(|name| Some((name.into(), raw(name)?))).collect(),
            path: raw("PATH").unwrap_or_default(),
            home: raw("HOME").map(PathBuf::from),
            notify_socket: raw("NOTIFY_SOCKET"),
        }
    }

    /// Where state, run-time data, downloads and logs lie: all under `state_dir` (the option) or [`Env::dir`]; else the
    /// system's places for root (`uid` 0), the XDG folders for a user. None: a user without `HOME`.
    pub fn layout(&self, state_dir: Option<&Path>, uid: u32) -> Option<Layout> {
        Layout::choose(state_dir.or(self.dir.as_deref()), uid, |name| std::env::var_os(name))
    }

    /// Where the client's configuration is.
    pub fn folders(&self) -> Folders {
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        let usual = || self.config_home.clone().or_else(home).map(|folder| folder.join("stapes"));
        let global = self.global_conf.clone();
        Folders { user: self.conf.clone().or_else(usual), global: global.unwrap_or_else(|| "/etc/stapes".into()) }
    }

    /// The files that may know passwords of registries (containers-auth.json(5)).
    pub fn logins(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.registry_auth {
            return vec![file.clone()];
        }
        let below = |name: &str| self.home.as_ref().map(|home| home.join(name));
        let containers = self.config_home.clone().or_else(|| below(".config")).map(|f| f.join("containers/auth.json"));
        let docker = self.docker_config.clone().or_else(|| below(".docker")).map(|f| f.join("config.json"));
        containers.into_iter().chain(docker).collect()
    }

    /// The program's name in usage lines.
    pub fn program(&self) -> &'static str {
        if self.as_incus { "incus" } else { "stapes" }
    }
}

/// Arms the fault points from the environment; called by every role before anything else.
///
/// # Panics
/// The specification is not understood: a test that arms nothing would pass for the wrong reason.
#[cfg(feature = "faults")]
pub fn arm_faults() {
    if let Ok(spec) = std::env::var(crate::fault::VARIABLE) {
        crate::fault::arm(&spec).expect("a good specification");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(argv0: &str, vars: &[(&str, &str)]) -> Env {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        Env::from(OsStr::new(argv0), &find)
    }

    #[test]
    fn incus_variables_count_only_for_incus() {
        let vars = [("INCUS_PROJECT", "p"), ("INCUS_DIR", "/i"), ("STAPES_DIR", "/s"), ("STAPES_REMOTE", "")];
        let ours = env("/usr/bin/stapes", &vars);
        assert_eq!((ours.project, ours.dir, ours.remote), (None, Some("/s".into()), None));
        let theirs = env("/usr/bin/incus", &vars);
        assert_eq!((theirs.project.as_deref(), theirs.dir), (Some("p"), Some("/s".into())));
        assert_eq!(env("incus", &vars[..2]).dir, Some("/i".into()));
    }
}
