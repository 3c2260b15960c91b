//! Named fault points (design, section 12): places where the crash matrix kills the program or makes a step fail.
//!
//! Compiled to nothing unless the `faults` feature is on; a release binary has none. A front arms them once at start-up
//! from a specification; the library never reads the environment.
//!
//! Specification: `trace:<file>` appends the name of each point passed to the file; `<action>:<name>[:<nth>[:<file>]]` acts
//! at the nth passage (from 1) of that point. Actions: `kill` (SIGKILL to ourselves), `enospc`, `eio`. Passages are counted
//! in this process; with a file, among all processes that share it, and only while it exists – so a monitor can be armed
//! when it is started, and act later.

use crate::error::Result;

/// Passes the fault point `name`. Does nothing unless armed.
///
/// # Errors
/// ENOSPC or EIO, when armed so.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_name: &'static str) -> Result<()> {
    Ok(())
}

#[cfg(feature = "faults")]
pub use armed::{arm, point, specification};

/// The environment variable that carries a specification to the roles we start.
pub const VARIABLE: &str = "STAPES_FAULT";

/// What this process was armed with, for the processes it starts.
#[cfg(not(feature = "faults"))]
pub fn specification() -> Option<&'static str> {
    None
}

#[cfg(feature = "faults")]
mod armed {
    use super::Result;
    use crate::error::Error;
    use std::fs::OpenOptions;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    enum Plan {
        Trace(PathBuf),
        Act { action: Action, name: String, nth: u32, count: Count },
    }

    /// Passages so far.
    enum Count {
        Own(AtomicU32),
        Shared(PathBuf),
    }

    impl Count {
        /// Counts one more passage of `name`; its number, 0 if none are counted now.
        fn next(&self, name: &str) -> Result<u32> {
            let path = match self {
                Self::Own(passed) => return Ok(passed.fetch_add(1, Ordering::SeqCst) + 1),
                Self::Shared(path) => path,
            };
            let mut file = match OpenOptions::new().read(true).append(true).open(path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
                other => other?,
            };
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
            file.write_all(format!("{name}\n").as_bytes())?;
            let mut text = String::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_string(&mut text)?;
            Ok(u32::try_from(text.lines().filter(|l| *l == name).count()).unwrap_or(u32::MAX))
        }
    }

    #[derive(Clone, Copy)]
    enum Action {
        Kill,
        Errno(i32),
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();
    static SPECIFICATION: OnceLock<String> = OnceLock::new();

    /// See the crate's `fault` module.
    pub fn specification() -> Option<&'static str> {
        SPECIFICATION.get().map(String::as_str)
    }

    /// Arms the fault points of this process; called once by a front.
    ///
    /// # Errors
    /// The specification is not understood.
    pub fn arm(spec: &str) -> Result<()> {
        let bad = || Error::invalid(format!("Bad fault specification \"{spec}\""));
        let mut parts = spec.split(':');
        let plan = match (parts.next(), parts.next()) {
            (Some("trace"), Some(path)) => Plan::Trace(path.into()),
            (Some(action), Some(name)) => {
                let action = match action {
                    "kill" => Action::Kill,
                    "enospc" => Action::Errno(libc::ENOSPC),
                    "eio" => Action::Errno(libc::EIO),
                    _ => return Err(bad()),
                };
                let nth = parts.next().map_or(Ok(1), str::parse).map_err(|_| bad())?;
                let count = parts.next().map_or_else(|| Count::Own(AtomicU32::new(0)), |f| Count::Shared(f.into()));
                Plan::Act { action, name: name.to_string(), nth, count }
            }
            _ => return Err(bad()),
        };
        let _ = SPECIFICATION.set(spec.to_string());
        PLAN.set(plan).map_err(|_| Error::internal("Fault points are armed already"))
    }

    /// See the crate's `fault` module.
    pub fn point(name: &'static str) -> Result<()> {
        match PLAN.get() {
            None => Ok(()),
            Some(Plan::Trace(path)) => {
                let mut file = OpenOptions::new().create(true).append(true).open(path)?;
                file.write_all(format!("{name}\n").as_bytes())?;
                Ok(())
            }
            Some(Plan::Act { action, name: wanted, nth, count }) => {
                if wanted != name || count.next(name)? != *nth {
                    return Ok(());
                }
                match action {
                    Action::Kill => {
                        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
                        Ok(())
                    }
                    Action::Errno(n) => Err(std::io::Error::from_raw_os_error(*n).into()),
                }
            }
        }
    }
}
