//! What every handler is given: folders, project, verbosity, terminals and the ways to print.
//!
//! Made once in [`super::main`]. Handlers print through it, so that `--quiet` and a closed pipe are dealt with in one place.

use super::env::Env;
use super::kv::{self, Assignments, Pairs};
use super::progress::Progress;
use crate::base::names::ProjectName;
use crate::error::{Error, Result};
use crate::host::command::{self, Host};
use crate::ops::{first_use, undo};
use crate::store::layout::Layout;
use crate::store::{Access, Store};
use std::fmt;
use std::io::{IsTerminal, Write};

/// Which of the three standard streams are terminals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tty {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Tty {
    /// Asks the kernel.
    pub fn probe() -> Self {
        Self {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal(),
        }
    }
}

/// The surroundings of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The environment.
    pub env: Env,
    /// Where the state is.
    pub layout: Layout,
    /// The project to work in: `--project`, else the environment's, else `default`.
    pub project: String,
    /// The project was named by option or environment.
    pub project_given: bool,
    /// `--quiet`: no progress, no notices.
    pub quiet: bool,
    /// `--verbose` or `--debug`: more about what is done, on standard error.
    pub verbose: bool,
    /// `--debug`.
    pub debug: bool,
    /// The terminals.
    pub tty: Tty,
}

impl Context {
    /// Opens the store for a command that changes something; what a killed command left is settled first.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn store(&self) -> Result<Store> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::unsupported("This version can only change things as root").hint("run it with sudo"));
        }
        undo::open(&self.layout, Access::Write)
    }

    /// Opens the store for a command that only reads.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn reader(&self) -> Result<Store> {
        undo::open(&self.layout, Access::Read)
    }

    /// The host's programs, told of the user's proxies.
    pub fn tools(&self) -> Host {
        Host { env: command::Env { proxies: self.env.proxies.clone(), ..command::Env::default() } }
    }

    /// The project to work in; it must exist.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`].
    pub fn project(&self, store: &Store) -> Result<ProjectName> {
        let name = ProjectName::parse(&self.project)?;
        match store.project(&name)? {
            Some(_) => Ok(name),
            None => Err(Error::not_found("Project not found")),
        }
    }

    /// Prints output proper, as it is.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, text: impl fmt::Display) -> Result<()> {
        let mut out = std::io::stdout().lock();
        write!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }

    /// Prints a line of output proper.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn line(&self, text: impl fmt::Display) -> Result<()> {
        self.print(format_args!("{text}\n"))
    }

    /// Prints a one-line notice on standard output, such as `Device X added to Y`; nothing with `--quiet`.
    ///
    /// # Errors
    /// As [`Context::print`].
    pub fn notice(&self, text: impl fmt::Display) -> Result<()> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// Prints `Warning: …` on standard error.
    pub fn warn(&self, text: impl fmt::Display) {
        let prefix = super::report::prefix("Warning:", "33", self.color_err());
        // Nobody is left to tell if standard error is closed.
        let _ = writeln!(std::io::stderr(), "{prefix} {text}");
    }

    /// Makes what the first instance of a state folder needs; says what the host lacks for a network.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn first_use(&self, store: &Store) -> Result<()> {
        if let Some(refused) = first_use::ensure(store)? {
            self.warn(&refused);
            let hint = refused.hint_text().map(|h| format!("{h}, then: ")).unwrap_or_default();
            self.warn(format_args!(
                "{hint}stapes network create stapesbr0 && stapes network attach-profile stapesbr0 default eth0 eth0"
            ));
        }
        Ok(())
    }

    /// Standard error takes colours.
    pub fn color_err(&self) -> bool {
        self.tty.stderr && !self.env.no_color
    }

    /// A progress line; `format` holds `%s` where the status goes, as in `Retrieving image: %s`.
    pub fn progress(&self, format: &str) -> Progress {
        Progress::new(format, self.tty.stdout && !self.quiet)
    }

    /// `self.project` as it is shown behind the name of an instance in hints: ` --project x`, or nothing.
    pub fn project_argument(&self) -> String {
        if self.project_given && self.project != "default" {
            format!(" --project {}", self.project)
        } else {
            String::new()
        }
    }

    /// Asks a question on the terminal; only the word `yes` is a yes.
    ///
    /// # Errors
    /// Standard input or output failed.
    pub fn confirm(&self, question: &str) -> Result<bool> {
        self.print(format_args!("{question} (yes/no): "))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(kv::is_yes(answer.trim()))
    }

    /// The pairs of a `set`-like command: warns about the deprecated form, and puts standard input in place of the value
    /// `-` when standard input is not a terminal.
    ///
    /// # Errors
    /// `-` given twice, or standard input cannot be read.
    pub fn values(&self, assignments: Assignments) -> Result<Pairs> {
        if assignments.deprecated {
            self.warn(kv::DEPRECATED);
        }
        let mut pairs = assignments.pairs;
        let mut read = false;
        for (_, value) in pairs.iter_mut().filter(|(_, value)| value == "-" && !self.tty.stdin) {
            if std::mem::replace(&mut read, true) {
                return Err(Error::invalid("Cannot read the stdin twice"));
            }
            *value = self.stdin_text()?;
        }
        Ok(pairs)
    }

    /// All of standard input as text when it is not a terminal (the YAML that `create`, `edit` and others read); none on a
    /// terminal or when there is nothing but white space.
    ///
    /// # Errors
    /// Reading failed, it is not UTF-8 or larger than 16 MiB.
    pub fn stdin_document(&self) -> Result<Option<String>> {
        if self.tty.stdin {
            return Ok(None);
        }
        Ok(Some(self.stdin_text()?).filter(|t| !t.trim().is_empty()))
    }

    fn stdin_text(&self) -> Result<String> {
        use std::io::Read;
        const MOST: u64 = 16 << 20;
        let mut bytes = Vec::new();
        match std::io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes) {
            Ok(_) => {}
            // Started with standard input closed (`<&-`), or detached: the same as empty.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBADF | libc::EIO)) => return Ok(String::new()),
            Err(e) => return Err(Error::from(e).context("Can't read from stdin")),
        }
        if bytes.len() as u64 > MOST {
            return Err(Error::invalid("Standard input is larger than 16MiB"));
        }
        String::from_utf8(bytes).map_err(|_| Error::invalid("Standard input isn't UTF-8"))
    }
}
