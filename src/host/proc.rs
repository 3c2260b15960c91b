//! Who a process is: its start time from `/proc/PID/stat`, and pidfds opened only after that was compared.
//!
//! A pid alone names nobody: it is reused. Pid, start time and boot id together do (design, section 6). Called by `store`
//! (lock holders, run files) and by everything that signals or joins a process named in a record. Never signals by pid.

use crate::base::idmap::{Entry, IdMap, Kind};
use crate::error::{Context, Error, Result};
use rustix::process::{Pid, PidfdFlags};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// The part of `/proc/PID/stat` (proc_pid_stat(5)) that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// State letter (`R`, `S`, `Z`, …).
    pub state: u8,
    /// Parent.
    pub ppid: i32,
    /// Start time in clock ticks after boot.
    pub starttime: u64,
}

impl Stat {
    /// Has exited: a zombie, or dead.
    pub fn gone(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Reads `/proc/<pid>/stat`; `None` if there is no such process.
///
/// # Errors
/// `/proc` cannot be read or makes no sense.
pub fn stat(pid: i32) -> Result<Option<Stat>> {
    if pid <= 0 {
        return Ok(None);
    }
    let path = format!("/proc/{pid}/stat");
    match read(&path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| Error::internal(format!("Failed parsing \"{path}\""))),
        // ESRCH: it ended between open and read.
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("Failed reading \"{path}\"")),
    }
}

/// One open, one read: the line is at most some 1,100 bytes.
fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let mut buffer = [0; 2048];
    let n = std::fs::File::open(path)?.read(&mut buffer)?;
    Ok(buffer[..n].to_vec())
}

/// Field 2 is the command in parentheses and may itself hold spaces and parentheses, so fields are counted from the last
/// closing one.
fn parse(text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = std::str::from_utf8(&text[after..]).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    // Fields 3 and 4 are taken; 22 is the start time.
    let starttime = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, ppid, starttime })
}

/// Start time of process `pid` in clock ticks after boot; `None` if there is none.
///
/// # Errors
/// See [`stat`].
pub fn start_time(pid: i32) -> Result<Option<u64>> {
    Ok(stat(pid)?.map(|s| s.starttime))
}

/// Our own start time; read once.
///
/// # Errors
/// `/proc` cannot be read.
pub fn own_start_time() -> Result<u64> {
    static OWN: OnceLock<u64> = OnceLock::new();
    if let Some(t) = OWN.get() {
        return Ok(*t);
    }
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let t = start_time(pid)?.ok_or_else(|| Error::internal("Our own process is not in /proc"))?;
    Ok(*OWN.get_or_init(|| t))
}

/// The id map of process `pid`'s user namespace, as we see it; none if it has no namespace of its own.
///
/// # Errors
/// It is gone, or `/proc` makes no sense.
pub fn id_map(pid: i32) -> Result<Option<IdMap>> {
    let namespace = |who: &str| {
        std::fs::read_link(format!("/proc/{who}/ns/user")).context("Failed reading the instance's user namespace")
    };
    if namespace(&pid.to_string())? == namespace("self")? {
        return Ok(None);
    }
    let mut map = IdMap::default();
    for (kind, file) in [(Kind::Uid, "uid_map"), (Kind::Gid, "gid_map")] {
        let path = format!("/proc/{pid}/{file}");
        let text = std::fs::read_to_string(&path).with_context(|| format!("Failed reading \"{path}\""))?;
        let entries = text.lines().map(|l| entry(kind, l).ok_or_else(|| Error::internal(format!("Bad id map: {l}"))));
        map.entries.extend(entries.collect::<Result<Vec<_>>>()?);
    }
    Ok(Some(map))
}

/// A line of user_namespaces(7)'s map: inside, outside, length.
fn entry(kind: Kind, line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace().map(str::parse);
    let (ns, host, range) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Entry { kind, host, ns, range })
}

/// Whether the process that had `pid` and `starttime` in this boot still runs. A zombie does not.
pub fn alive(pid: i32, starttime: u64) -> bool {
    matches!(stat(pid), Ok(Some(s)) if s.starttime == starttime && !s.gone())
}

/// A pidfd of the process that had `pid` and `starttime` in this boot; `None` if it is gone, whoever has the pid now.
///
/// # Errors
/// pidfd_open(2) failed otherwise.
pub fn open(pid: i32, starttime: u64) -> Result<Option<OwnedFd>> {
    let Some(raw) = Pid::from_raw(pid).filter(|_| pid > 0) else { return Ok(None) };
    let fd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(e) => return Err(std::io::Error::from(e)).context(format!("Failed opening process {pid}")),
    };
    // Compared after opening: from here on the fd keeps naming the same process.
    Ok((start_time(pid)? == Some(starttime)).then_some(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_parses() {
        let line =
            b"42 (a) R (b c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 1 18446744073709551615 1\n";
        assert_eq!(parse(line), Some(Stat { state: b'S', ppid: 7, starttime: 12345 }));
        assert_eq!(parse(b"42 (x"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn we_are_ourselves_and_nobody_else() {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let t = own_start_time().expect("own");
        assert!(alive(me, t));
        assert!(!alive(me, t + 1), "same pid, other start time: a recycled pid");
        assert!(open(me, t).expect("pidfd").is_some());
        assert!(open(me, t + 1).expect("pidfd").is_none());
        assert!(open(0, 1).expect("none").is_none());
        assert!(!alive(i32::MAX, 1));
    }
}
