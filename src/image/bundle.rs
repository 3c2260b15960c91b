//! `config.json` of an application (OCI) image: what is to run in its instances.
//!
//! A runtime specification (OCI runtime-spec, config.md) as Incus stores it beside `metadata.yaml`. It comes from strangers: size,
//! counts and characters are bounded, and only what is read here has an effect; everything else of it, hooks and devices above all,
//! is ignored.

use crate::error::{Context, Error, Result};
use crate::sys::path;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// Its name in an image.
pub const NAME: &str = "config.json";
/// Largest file, bytes.
const MAX: u64 = 1 << 20;
/// Most words, variables and mounts.
const ITEMS_MAX: usize = 1000;
/// Where the runtime mounts something itself.
const TAKEN: [&str; 3] = ["/dev", "/proc", "/sys"];
/// The image's own signal for a clean shutdown (OCI image-spec, conversion.md).
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// What is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bundle {
    /// The process.
    pub process: Process,
    mounts: Option<Vec<Mount>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// The process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute path.
    pub cwd: String,
    /// Who it is.
    pub user: User,
}

/// Who it is, as the instance sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mount {
    destination: String,
    #[serde(rename = "type")]
    kind: String,
    options: Vec<String>,
}

/// A tmpfs that the image asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path in the instance, without `..`.
    pub target: String,
    /// Bytes.
    pub size: Option<u64>,
    /// Mode of its root.
    pub mode: u32,
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad application image: {what}"))
}

impl Bundle {
    /// Reads and checks it.
    ///
    /// # Errors
    /// It is no such JSON, over a bound, without a process, or holds a path that is not allowed.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let bundle: Self = serde_json::from_slice(data).map_err(|e| bad(format_args!("{NAME}: {e}")))?;
        bundle.check()?;
        Ok(bundle)
    }

    fn check(&self) -> Result<()> {
        let Process { args, env, cwd, user } = &self.process;
        let counts = [args.len(), env.len(), user.additional_gids.len(), self.mounts.as_ref().map_or(0, Vec::len)];
        if counts.iter().any(|n| *n > ITEMS_MAX) {
            return Err(bad(format!("more than {ITEMS_MAX} arguments, variables, groups or mounts")));
        }
        if args.first().is_none_or(String::is_empty) {
            return Err(bad("it has no entry point and no command"));
        }
        if args.iter().chain(env).any(|text| text.contains('\0')) {
            return Err(bad("an argument or a variable has a NUL byte"));
        }
        if !cwd.is_empty() && !is_path(cwd) {
            return Err(bad(format!("the working folder {cwd:?}")));
        }
        if let Some(signal) = self.stop_signal_name().filter(|name| signal(name).is_none()) {
            return Err(bad(format!("the stop signal {signal:?}")));
        }
        Ok(())
    }

    fn stop_signal_name(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(STOP_SIGNAL).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// The signal that asks it to shut down; SIGTERM unless it says otherwise.
    pub fn stop_signal(&self) -> i32 {
        self.stop_signal_name().and_then(signal).unwrap_or(libc::SIGTERM)
    }

    /// What it wants a tmpfs at, but for where the runtime mounts something itself.
    ///
    /// # Errors
    /// A path that is not absolute or has `..`, a size or mode that is no number.
    pub fn tmpfs(&self) -> Result<Vec<Tmpfs>> {
        let wanted = |m: &&Mount| m.kind == "tmpfs" && !is_taken(&m.destination);
        self.mounts.iter().flatten().filter(wanted).map(tmpfs).collect()
    }
}

fn is_taken(path: &str) -> bool {
    TAKEN.iter().any(|at| path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 4096
        && !path.contains(char::is_control)
        && path.split('/').all(|c| c != "..")
}

fn tmpfs(m: &Mount) -> Result<Tmpfs> {
    if !is_path(&m.destination) || m.destination.trim_end_matches('/').is_empty() {
        return Err(bad(format!("the mount at {:?}", m.destination)));
    }
    let option = |name: &str| m.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
    let size = option("size").map(|text| bytes(text).ok_or_else(|| bad(format!("the size {text:?}")))).transpose()?;
    let mode = option("mode")
        .map(|text| u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777))
        .map(|mode| mode.ok_or_else(|| bad(format!("the mode of the mount at {:?}", m.destination))))
        .transpose()?;
    Ok(Tmpfs { target: m.destination.clone(), size, mode: mode.unwrap_or(0o755) })
}

/// tmpfs(5): bytes, or a number with `k`, `m`, `g`.
fn bytes(text: &str) -> Option<u64> {
    let (number, factor) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
fn signal(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let more = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&more).then(|| libc::SIGRTMIN() + more);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().ok()?;
    Some(signal as i32)
}

/// The one in the folder of an unpacked image; none if the image has none.
///
/// # Errors
/// As [`Bundle::parse`]; it is not a regular file, or too large.
pub fn read(image: BorrowedFd<'_>) -> Result<Option<Bundle>> {
    match path::read_limited(image, NAME.as_ref(), MAX, path::Links::Refuse) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        other => Bundle::parse(&other.context("Failed reading \"config.json\"")?).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{
        "ociVersion": "1.0.0", "hooks": {"prestart": [{"path": "/bin/evil"}]},
        "process": {
            "user": {"uid": 101, "gid": 102, "additionalGids": [7]}, "args": ["nginx", "-g", "daemon off;"],
            "env": ["PATH=/bin", "A=b c"], "cwd": "/srv"
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "options": ["size=65536k"]},
            {"destination": "/dev/shm", "type": "tmpfs"},
            {"destination": "/cache", "type": "tmpfs", "options": ["nosuid", "size=1m", "mode=1777"]},
            {"destination": "/host", "type": "bind", "source": "/"}
        ],
        "annotations": {"org.opencontainers.image.stopSignal": "SIGQUIT"}
    }"#;

    #[test]
    fn a_whole_one() {
        let bundle = Bundle::parse(WHOLE.as_bytes()).expect("good");
        assert_eq!(bundle.process.args, ["nginx", "-g", "daemon off;"]);
        assert_eq!(bundle.process.user, User { uid: 101, gid: 102, additional_gids: vec![7] });
        assert_eq!(bundle.stop_signal(), libc::SIGQUIT);
        let only = Tmpfs { target: "/cache".into(), size: Some(1 << 20), mode: 0o1777 };
        assert_eq!(bundle.tmpfs().expect("good"), [only]);
        let least = Bundle::parse(br#"{"process": {"args": ["sh"]}, "mounts": null}"#).expect("good");
        assert_eq!((least.stop_signal(), least.process.cwd.as_str()), (libc::SIGTERM, ""));
    }

    #[test]
    fn bad_ones() {
        let process = |rest: &str| format!(r#"{{"process": {{"args": ["sh"]{rest}}}}}"#);
        for text in [
            String::new(),
            "[]".into(),
            "{}".into(),
            r#"{"process": {"args": []}}"#.into(),
            r#"{"process": {"args": [""]}}"#.into(),
            r#"{"process": {"args": ["a\u0000b"]}}"#.into(),
            process(r#", "cwd": "srv""#),
            process(r#", "cwd": "/srv/../..""#),
            process(r#", "user": {"uid": -1}"#),
            process(&format!(", \"env\": [{}\"A=b\"]", "\"A=b\",".repeat(ITEMS_MAX))),
            r#"{"process": {"args": ["sh"]}, "annotations": {"org.opencontainers.image.stopSignal": "SIGWHAT"}}"#
                .into(),
        ] {
            assert!(Bundle::parse(text.as_bytes()).is_err(), "{text}");
        }
        for mount in [
            r#""destination": "cache""#,
            r#""destination": "/a/../../b""#,
            r#""destination": "/""#,
            r#""destination": "/a", "options": ["size=x"]"#,
            r#""destination": "/a", "options": ["mode=9"]"#,
        ] {
            let text = format!(r#"{{"process": {{"args": ["sh"]}}, "mounts": [{{"type": "tmpfs", {mount}}}]}}"#);
            assert!(Bundle::parse(text.as_bytes()).expect("read later").tmpfs().is_err(), "{mount}");
        }
    }

    #[test]
    fn signals() {
        let all = ["TERM", "sigint", "15", "SIGRTMIN+3", "RTMIN"].map(signal);
        let wanted = [libc::SIGTERM, libc::SIGINT, 15, libc::SIGRTMIN() + 3, libc::SIGRTMIN()];
        assert_eq!(all, wanted.map(Some));
        assert_eq!(["0", "65", "SIGRTMIN+99", "SIGRTMIN-1", "X", ""].map(signal), [None; 6]);
    }
}
