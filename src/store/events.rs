//! The event log: what a daemon would send to its listeners, appended to one bounded file that `monitor` follows.
//!
//! Appended to by `ops` and the monitors; one write(2) with O_APPEND per event, so lines of several processes never mix.
//! Never synced. A failure to append is returned and is no reason to fail a command. At the limit the file is renamed to
//! `events.jsonl.1`, replacing the last one: a follower sees its file moved, reads it to the end and opens the new one.

use super::Store;
use super::dir::Dir;
use super::lock;
use crate::error::{Context, Error, Result};
use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::Write;

/// Bytes after which the log is rotated.
pub const LIMIT: u64 = 1 << 20;

/// Bytes one event may have.
const EVENT_MAX: usize = 64 * 1024;

/// An event, serialised as Incus does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `lifecycle`, `operation` or `logging`.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When.
    pub timestamp: Timestamp,
    /// What.
    pub metadata: Value,
    /// `none`: we are no cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Project.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// Incus's three types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Something happened to an object.
    Lifecycle,
    /// An operation changed.
    Operation,
    /// A log line.
    Logging,
}

impl Event {
    /// A lifecycle event: `action` as `instance-started`, `source` as `/1.0/instances/c1`, `context` or null.
    pub fn lifecycle(action: &str, source: &str, project: &str, context: Value) -> Self {
        let name = source.rsplit('/').next().unwrap_or_default();
        let mut metadata = json!({"action": action, "source": source, "name": name, "project": project});
        if !context.is_null() {
            metadata["context"] = context;
        }
        Self {
            kind: EventKind::Lifecycle,
            timestamp: Timestamp::now(),
            metadata,
            location: "none".into(),
            project: project.to_string(),
        }
    }
}

/// Appends an event to the log of `store`'s layout.
///
/// # Errors
/// Invalid: over 64 KiB. Else an I/O error.
pub fn append(store: &Store, event: &Event) -> Result<()> {
    let path = store.layout().events_file();
    let fail = || format!("Failed writing \"{}\"", path.display());
    let mut line = serde_json::to_vec(event).map_err(|e| Error::failed(fail()).caused_by(e))?;
    line.push(b'\n');
    if line.len() > EVENT_MAX {
        return Err(Error::invalid("Event is over 64 KiB"));
    }
    let log = &store.layout().log;
    let dir = match super::open::trusted(log, "Log folder")? {
        Some(dir) => dir,
        None => {
            std::fs::create_dir_all(log).with_context(fail)?;
            let own = rustix::fs::Mode::from_raw_mode(0o711);
            rustix::fs::chmod(log, own).map_err(std::io::Error::from).with_context(fail)?;
            super::open::trusted(log, "Log folder")?.ok_or_else(|| Error::failed(fail()))?
        }
    };
    append_in(&dir, path.file_name().unwrap_or_default(), &line, LIMIT).with_context(fail)
}

fn append_in(dir: &Dir, name: &OsStr, line: &[u8], limit: u64) -> Result<()> {
    let open = || dir.open_at(name, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND, 0o600);
    let mut file = open()?;
    if file.metadata()?.len() >= limit {
        // Whoever wins rotates; the others write into the old file, which is kept.
        if lock::try_lock(&file, true)? && is_named(dir, name, &file)? {
            let mut old = OsString::from(name);
            old.push(".1");
            super::dir::rename(dir, name, dir, &old, true)?;
            file = open()?;
        }
    }
    // One call: a short write can only come from a full disk.
    if file.write(line)? == line.len() { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ENOSPC).into()) }
}

/// Whether `name` is still this file: somebody else may have rotated just before.
fn is_named(dir: &Dir, name: &OsStr, file: &std::fs::File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let there = match dir.open_at(name, OFlags::PATH, 0) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        there => there?.metadata()?,
    };
    let ours = file.metadata()?;
    Ok((there.ino(), there.dev()) == (ours.ino(), ours.dev()))
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::super::layout::Layout;
    use super::*;

    #[test]
    fn events_look_like_those_of_incus() {
        let d = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(d.path());
        let store = Store::open(&layout, Access::Write).expect("open");
        let event = Event::lifecycle("instance-started", "/1.0/instances/c1", "default", Value::Null);
        append(&store, &event).expect("append");
        append(&store, &event).expect("append");
        let text = std::fs::read_to_string(layout.events_file()).expect("read");
        assert_eq!(text.lines().count(), 2);
        let back: Event = serde_json::from_str(text.lines().next().expect("line")).expect("parse");
        assert_eq!(back, event);
        assert!(text.starts_with("{\"type\":\"lifecycle\",\"timestamp\":\""), "{text}");
    }

    #[test]
    fn the_log_is_bounded_and_lines_of_many_writers_stay_whole() {
        let d = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(d.path()).expect("open");
        let name = OsStr::new("events.jsonl");
        std::thread::scope(|s| {
            for t in 0..4 {
                let dir = &dir;
                s.spawn(move || {
                    for i in 0..500 {
                        let line = format!("{{\"thread\":{t},\"line\":{i},\"pad\":\"{}\"}}\n", "x".repeat(50));
                        append_in(dir, name, line.as_bytes(), 10_000).expect("append");
                    }
                });
            }
        });
        for file in ["events.jsonl", "events.jsonl.1"] {
            let text = std::fs::read_to_string(d.path().join(file)).expect("read");
            assert!(text.len() < 11_000, "{file}: {}", text.len());
            assert!(text.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()), "{file}");
        }
        assert_eq!(std::fs::read_dir(d.path()).expect("list").count(), 2);
    }
}
