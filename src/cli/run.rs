//! `run`: a throwaway instance around one command, gone afterwards. What CI jobs use.

use super::complete;
use super::create::{CreateOptions, resolve};
use super::exec::{FORWARDED, status, streams};
use super::{Context, Outcome, kv, publish};
use crate::base::names::InstanceName;
use crate::base::user::UserSpec;
use crate::error::{Error, Result};
use crate::model::instance::Device;
use crate::ops::exec::Process;
use crate::ops::run;
use crate::sys::process;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Run a command in a throwaway instance
///
/// The instance is made from the image, runs the command (or the image's
/// shell) without booting an init system, and is removed when it ends.
/// The exit code is the command's.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes run bootstrap:debian/12 -- cat /etc/os-release
    Run one command in a fresh Debian

stapes run -it --mount .:/src --workdir /src mine -- make test
    Run the tests of this folder in the local image \"mine\"

stapes run -p 8080:80 mine -- httpd -f
    Run a web server that the host answers for at port 8080"
)]
pub struct Run {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::images))]
    pub image: String,
    /// Command and its arguments
    #[arg(value_name = "command")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub options: CreateOptions,
    /// Environment variable to set (e.g. HOME=/home/foo) (may be passed multiple times)
    #[arg(long, value_name = "name=value")]
    pub env: Vec<String>,
    /// Keep stdin connected
    #[arg(short, long)]
    pub interactive: bool,
    /// Keep the instance instead of removing it
    #[arg(long)]
    pub keep: bool,
    /// Folder or file of the host to mount (may be passed multiple times)
    #[arg(long, value_name = "source:target[:ro]")]
    pub mount: Vec<String>,
    /// Name of the instance
    #[arg(long, value_name = "name")]
    pub name: Option<String>,
    /// Port of the host for one of the instance (may be passed multiple times); -p does it too, as ports are no profile's name
    #[arg(long, value_name = "[address:]host-port:port[/udp]")]
    pub publish: Vec<String>,
    /// End the command after this time (seconds, or with a unit as in 10m)
    #[arg(long, value_name = "time")]
    pub timeout: Option<String>,
    /// Allocate a pseudo-terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User to run the command as (a name of the image or an ID)
    #[arg(long, value_name = "user")]
    pub user: Option<String>,
    /// Directory to run the command in
    #[arg(long, value_name = "directory")]
    pub workdir: Option<String>,
}

/// One `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host, as given.
    pub source: String,
    /// Absolute path in the instance.
    pub target: String,
    /// Read-only.
    pub readonly: bool,
}

impl Mount {
    /// Parses `source:target[:ro]`.
    ///
    /// # Errors
    /// It is not of that form, or the target is not absolute.
    pub fn parse(word: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("Bad mount {word:?}, expecting <source>:<target>[:ro]"));
        let (rest, readonly) = match word.rsplit_once(':') {
            Some((rest, "ro")) => (rest, true),
            Some((rest, "rw")) => (rest, false),
            _ => (word, false),
        };
        let (source, target) = rest.split_once(':').ok_or_else(bad)?;
        if source.is_empty() || !target.starts_with('/') || target.contains(':') {
            return Err(bad());
        }
        Ok(Self { source: source.to_string(), target: target.to_string(), readonly })
    }
}

/// Seconds of `--timeout`: a number with `s`, `m`, `h`, or bare seconds.
///
/// # Errors
/// It is not of that form, or zero.
pub fn timeout(word: &str) -> Result<std::time::Duration> {
    let (number, unit) = match word.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &word[number.len()..]),
        None => (word, "s"),
    };
    let factor = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0);
    seconds
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| Error::invalid(format!("Bad time {word:?}, expecting a number with s, m or h")))
}

impl Run {
    /// Makes the instance, runs the command and removes the instance; its exit status is ours.
    ///
    /// # Errors
    /// See `ops::run`.
    pub fn run(mut self, cx: &Context) -> Outcome {
        let (ports, profiles) = self.options.profile.drain(..).partition(|word| publish::is_meant(word));
        self.options.profile = profiles;
        self.publish.extend::<Vec<String>>(ports);
        let image = cx.image_object(&self.image)?;
        let mut create = self.options.request(cx, None)?;
        create.name = self.name.as_deref().map(InstanceName::parse).transpose()?;
        for (i, word) in self.mount.iter().enumerate() {
            create.devices.insert(format!("mount{i}"), Mount::parse(word)?.device()?);
        }
        for (i, word) in self.publish.iter().enumerate() {
            create.devices.insert(format!("publish{i}"), publish::device(word)?);
        }
        let timeout = self.timeout.as_deref().map(timeout).transpose()?;
        self.user.as_deref().map(UserSpec::parse).transpose()?;
        let os = |(name, value): (String, String)| (name.into(), value.into());
        let env = self.env.iter().map(|w| kv::pair(w).map(os)).collect::<Result<_>>()?;
        let store = cx.store()?;
        create.project = cx.project(&store)?;
        create.image = Some(resolve(cx, &store, &image)?);
        cx.first_use(&store)?;
        if run::needs_protection(&store, &create)? {
            process::become_protected()?;
        }
        let command = Process {
            command: self.command.into_iter().map(Into::into).collect(),
            env,
            user: 0,
            group: 0,
            cwd: self.workdir,
            terminal: self.tty.then(|| cx.env.term.clone().unwrap_or_default()),
            streams: streams(self.interactive || self.tty)?,
        };
        let request = run::Request { create, process: command, user: self.user, keep: self.keep, timeout };
        let signals = process::signals(&FORWARDED)?;
        let ended = run::run(&store, request, Some(&signals));
        drop(store);
        cx.leave();
        Ok(status(ended?))
    }
}

impl Mount {
    /// The disk device it stands for. Ids are mapped, so that root in the instance can work with root's files.
    fn device(&self) -> Result<Device> {
        let source = std::path::absolute(&self.source)?;
        let pairs = [
            ("type", "disk".to_string()),
            ("source", source.to_string_lossy().into_owned()),
            ("path", self.target.clone()),
            ("readonly", self.readonly.to_string()),
            ("shift", "true".to_string()),
        ];
        Ok(pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let show = |w: &str| Mount::parse(w).map(|m| format!("{} {} {}", m.source, m.target, m.readonly));
        assert_eq!(show("/a:/b").unwrap(), "/a /b false");
        assert_eq!(show("./a:/b:ro").unwrap(), "./a /b true");
        for bad in ["/a", ":/b", "/a:b", "/a:/b:xx", "/a:ro", ""] {
            assert!(show(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(timeout("90").unwrap().as_secs(), 90);
        assert_eq!(timeout("10m").unwrap().as_secs(), 600);
        for bad in ["", "m", "0", "-1", "1d", "99999999999999999h"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
