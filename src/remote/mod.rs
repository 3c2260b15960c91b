//! L4: other servers as the user knows them: the client's configuration file, and the certificates that were accepted.
//!
//! Called by the fronts. The folder is the user's own (`~/.config/stapes`), beside it the one for all users (`/etc/stapes`),
//! which is only read. Speaking to servers is `host::http`'s.

use crate::base::yaml;
use crate::error::{Context, Error, Result};
use crate::host::http::{Trust, fingerprint};
use crate::model::remote::Remotes;
use crate::store::atomic::{self, Durability};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const FILE: &str = "config.yml";
const CERTIFICATES: &str = "servercerts";
const FILE_MAX: u64 = 1 << 20;

/// Where the configuration is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// The user's; none if there is no home.
    pub user: Option<PathBuf>,
    /// For all users.
    pub global: PathBuf,
}

impl Folders {
    /// Reads the configuration; what is missing is made up.
    ///
    /// # Errors
    /// A file cannot be read or is no such configuration.
    pub fn load(&self) -> Result<Remotes> {
        let user = self.user.as_deref().map(|folder| read(&folder.join(FILE))).transpose()?.flatten();
        Ok(Remotes::merged(user, read(&self.global.join(FILE))?))
    }

    /// The project that the user has switched to. Every command asks, so most files are not parsed for it.
    ///
    /// # Errors
    /// As [`Folders::load`].
    pub fn project(&self) -> Result<Option<String>> {
        let file = self.user.as_deref().map(|folder| text(&folder.join(FILE))).transpose()?.flatten();
        match file.is_some_and(|text| text.contains("project")) {
            true => Ok(self.load()?.project().map(str::to_string)),
            false => Ok(None),
        }
    }

    /// The user's aliases of commands; like [`Folders::project`], every command asks.
    ///
    /// # Errors
    /// As [`Folders::load`].
    pub fn aliases(&self) -> Result<BTreeMap<String, String>> {
        let file = self.user.as_deref().map(|folder| text(&folder.join(FILE))).transpose()?.flatten();
        match file.is_some_and(|text| text.contains("aliases")) {
            true => Ok(self.load()?.aliases),
            false => Ok(BTreeMap::new()),
        }
    }

    /// Writes the user's part of it.
    ///
    /// # Errors
    /// There is no home; an I/O error.
    pub fn save(&self, remotes: &Remotes) -> Result<()> {
        let folder = self.own()?;
        make(folder)?;
        atomic::replace(&folder.join(FILE), yaml::to_string(&remotes.own())?.as_bytes(), 0o600, Durability::Durable)
    }

    fn own(&self) -> Result<&Path> {
        self.user.as_deref().ok_or_else(|| Error::invalid("HOME isn't set, so there is no place for the configuration"))
    }

    /// Which certificates count for a remote: the one that was accepted for it, else the system's authorities'.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn trust(&self, remote: &str) -> Result<Trust> {
        let name = format!("{remote}.crt");
        let mut folders = self.user.iter().chain([&self.global]);
        let pinned = folders.find_map(|folder| text(&folder.join(CERTIFICATES).join(&name)).transpose()).transpose()?;
        Ok(Trust { pinned, ..Trust::default() })
    }

    /// Keeps the certificate (PEM) of a remote's server.
    ///
    /// # Errors
    /// It is none; an I/O error.
    pub fn accept(&self, remote: &str, pem: &str) -> Result<()> {
        fingerprint(pem)?;
        let folder = self.own()?.join(CERTIFICATES);
        make(&folder)?;
        atomic::replace(&folder.join(format!("{remote}.crt")), pem.as_bytes(), 0o600, Durability::Durable)
    }

    /// Moves the accepted certificate along when a remote is renamed; `to` none forgets it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn renamed(&self, from: &str, to: Option<&str>) -> Result<()> {
        let folder = self.own()?.join(CERTIFICATES);
        let file = folder.join(format!("{from}.crt"));
        let done = match to {
            Some(to) => std::fs::rename(&file, folder.join(format!("{to}.crt"))),
            None => std::fs::remove_file(&file),
        };
        match done {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("Failed changing \"{}\"", file.display()))
            }
            _ => Ok(()),
        }
    }
}

fn make(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("Failed creating folder \"{}\"", folder.display()))
}

fn read(path: &Path) -> Result<Option<Remotes>> {
    let fail = || format!("Failed reading \"{}\"", path.display());
    let Some(text) = text(path)? else { return Ok(None) };
    if text.trim().is_empty() {
        return Ok(None);
    }
    yaml::from_str(&text).map(Some).with_context(fail)
}

fn text(path: &Path) -> Result<Option<String>> {
    let fail = || format!("Failed reading \"{}\"", path.display());
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(fail)?,
    };
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).with_context(fail)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::remote::{SIMPLESTREAMS, server};

    #[test]
    fn incus_files_are_read_and_written() {
        let dir = tempfile::tempdir().expect("folder");
        let folders = Folders { user: Some(dir.path().join("u/stapes")), global: dir.path().join("g") };
        let mut remotes = folders.load().expect("none yet");
        remotes.add("mine", server("https://h:8443", SIMPLESTREAMS)).expect("good");
        folders.save(&remotes).expect("written");
        assert_eq!(folders.load().expect("read"), remotes);
        let file = dir.path().join("u/stapes/config.yml");
        let text = std::fs::read_to_string(&file).expect("file");
        assert!(text.starts_with("default-remote: local\nremotes:\n  images:\n    addr: https://"), "{text}");
        let theirs = "default-remote: mine\nremotes:\n  mine:\n    addr: https://h\n    protocol: simplestreams\n    public: true\n    \
                      last_working_address: x\naliases:\n  a: b c\ndefaults:\n  list_format: csv\n  no_color: true\n";
        std::fs::write(&file, theirs).expect("write");
        let read = folders.load().expect("Incus's own");
        assert_eq!((read.default.as_str(), read.aliases["a"].as_str()), ("mine", "b c"));
        folders.save(&read).expect("written");
        let text = std::fs::read_to_string(&file).expect("file");
        assert!(text.contains("aliases:\n  a: b c\n") && text.contains("no_color: true"), "{text}");
        std::fs::write(&file, "remotes: [").expect("write");
        assert!(folders.load().expect_err("broken").to_string().starts_with("Failed reading"));
    }
}
