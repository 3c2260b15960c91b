//! `doctor`: is the host fit, and do records, disk and kernel agree.

use super::list::FormatOption;
use super::output::{self, Table};
use super::{Context, DONE, Outcome};
use crate::ops::doctor::{self, Finding};
use clap::Args;
use std::process::ExitCode;

/// Check the host and the state, and say how to repair what is wrong
#[derive(Debug, Args)]
pub struct Doctor {
    /// Repair what can be repaired without losing anything
    #[arg(long)]
    pub fix: bool,
    #[command(flatten)]
    pub format: FormatOption,
}

impl Doctor {
    /// Runs every check. The exit code is 1 if something is wrong.
    ///
    /// # Errors
    /// See `ops::doctor`.
    pub fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let mut report = doctor::host();
        let state = cx.store().and_then(|store| doctor::state(&store, self.fix));
        match state {
            Ok(found) => report.findings.extend(found.findings),
            Err(e) => report.broken("state", &e),
        }
        let row = |f: &Finding| vec![f.check.clone(), f.level.as_str().to_string(), f.message.clone(), f.fix.clone()];
        let rows = report.findings.iter().map(row).collect();
        let table = Table::new(["CHECK", "RESULT", "WHAT WAS SEEN", "WHAT TO DO"], rows);
        output::print(&mut std::io::stdout().lock(), &format, &table, &report.findings)?;
        Ok(if report.healthy() { DONE } else { ExitCode::FAILURE })
    }
}
