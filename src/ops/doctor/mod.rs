//! `doctor`: can this host run instances, and do records, disk and kernel agree. One small check per entry; with `fix`
//! what can be mended without losing anything of the user's is mended.
//!
//! It runs beside other commands: an object that somebody works on is locked and passed over.

mod acls;
mod copies;
mod host;
mod images;
mod instances;
mod limits;
mod networks;
mod pools;
mod records;
mod snapshots;
mod volumes;

use crate::error::{Error, Result};
use crate::store::Store;
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// Something is missing that only some uses need.
    Warning,
    /// It does not work, or does not agree.
    Error,
    /// It did not agree and does now.
    Fixed,
}

impl Level {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fixed => "FIXED",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// The result.
    pub level: Level,
    /// What was seen.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// Collects findings.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order they were made.
    pub findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, check: &str, level: Level, message: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding { check: check.to_string(), level, message: message.into(), fix: fix.into() });
    }

    fn ok(&mut self, check: &str, message: impl Into<String>) {
        self.add(check, Level::Ok, message, "");
    }

    /// A disagreement: mended by `mend` if `fix`, else reported.
    fn disagreement(&mut self, check: &str, message: impl Into<String>, fix: bool, mend: impl FnOnce() -> Result<()>) {
        let message = message.into();
        match fix.then(mend) {
            None => self.add(check, Level::Error, message, "run: stapes doctor --fix"),
            Some(Ok(())) => self.add(check, Level::Fixed, message, ""),
            Some(Err(e)) => self.add(check, Level::Error, format!("{message}: {e}"), "see the message"),
        }
    }

    /// A disagreement nobody but the user can mend.
    pub fn broken(&mut self, check: &str, e: &Error) {
        self.add(check, Level::Error, e.to_string(), e.hint_text().unwrap_or_default());
    }

    /// Nothing is wrong: no finding is an error.
    pub fn healthy(&self) -> bool {
        self.findings.iter().all(|f| f.level != Level::Error)
    }
}

/// The host alone.
pub fn host() -> Report {
    let mut report = Report::default();
    host::check(&mut report);
    report
}

/// Records, disk and kernel; with `fix` mends what it can.
///
/// # Errors
/// The state folder cannot be read at all.
pub fn state(store: &Store, fix: bool) -> Result<Report> {
    let mut report = Report::default();
    records::check(store, fix, &mut report)?;
    // Before whatever opens them, which would mount them.
    pools::check(store, fix, &mut report)?;
    images::check(store, fix, &mut report)?;
    instances::check(store, fix, &mut report)?;
    snapshots::check(store, fix, &mut report)?;
    volumes::check(store, fix, &mut report)?;
    copies::check(store, fix, &mut report)?;
    networks::check(store, fix, &mut report)?;
    acls::check(store, fix, &mut report)?;
    limits::check(store, &mut report);
    if report.healthy() {
        report.ok("state", format!("records, disk and kernel agree in {}", store.layout().state.display()));
    }
    Ok(report)
}
