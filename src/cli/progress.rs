//! The one progress line of a command, redrawn in place on a terminal and absent everywhere else.
//!
//! `ops` is handed `&dyn Fn(&str)` made by [`Progress::reporter`]; nothing below `cli` prints.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A progress line on standard output.
#[derive(Debug)]
pub struct Progress {
    before: String,
    after: String,
    enabled: bool,
    /// Columns of the longest text drawn so far.
    drawn: Mutex<usize>,
}

impl Progress {
    /// `format`: text with `%s` for the status (or no `%s`: the status alone). `enabled`: draw at all.
    pub fn new(format: &str, enabled: bool) -> Self {
        let (before, after) = format.split_once("%s").unwrap_or(("", ""));
        Self { before: before.to_string(), after: after.to_string(), enabled, drawn: Mutex::new(0) }
    }

    /// Shows `status`. Cheap when not enabled.
    pub fn update(&self, status: &str) {
        if self.enabled {
            self.draw(&format!("{}{status}{}", self.before, self.after));
        }
    }

    /// What is passed to `ops`.
    pub fn reporter(&self) -> impl Fn(&str) + Sync + '_ {
        |status| self.update(status)
    }

    /// Takes the line away. Also done on drop.
    pub fn clear(&self) {
        let mut drawn = self.lock();
        if *drawn > 0 {
            let blank = " ".repeat(*drawn);
            let _ = write!(std::io::stdout(), "\r{blank}\r");
            let _ = std::io::stdout().flush();
            *drawn = 0;
        }
    }

    fn draw(&self, text: &str) {
        use unicode_width::UnicodeWidthStr;
        let mut drawn = self.lock();
        let width = text.width();
        if terminal_columns().is_some_and(|columns| width >= columns) {
            return;
        }
        let blank = " ".repeat(drawn.saturating_sub(width));
        let _ = write!(std::io::stdout(), "\r{text}{blank}");
        let _ = std::io::stdout().flush();
        *drawn = (*drawn).max(width);
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
