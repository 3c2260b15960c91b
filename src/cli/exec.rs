//! `exec` and `shell`: a command inside a running instance, with our terminal and its exit status.

use super::complete;
use super::{Context, Outcome, kv};
use crate::base::names::InstanceName;
use crate::base::user;
use crate::error::{Error, Result};
use crate::ops::exec::{self, Streams};
use crate::ops::load;
use crate::sys::process;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use nix::sys::signal::Signal;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// What stands for no command.
const LOGIN: [&str; 2] = ["su", "-l"];

/// Execute commands in instances
///
/// The command is executed directly using exec, so there is no shell and
/// shell patterns (variables, file redirects, ...) won't be understood.
/// If you need a shell environment you need to execute the shell
/// executable, passing the shell commands as arguments, for example:
///
///   stapes exec <instance> -- sh -c "cd /tmp && pwd"
///
/// Without a command it is a login shell, as with stapes shell.
///
/// Mode defaults to non-interactive, interactive mode is selected if both stdin AND stdout are terminals (stderr is ignored).
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes exec c1 bash
    Run the \"bash\" command in instance \"c1\"

stapes exec c1 -- ls -lh /
    Run the \"ls -lh /\" command in instance \"c1\""
)]
pub struct Exec {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::running_instances))]
    pub instance: String,
    /// Command and its arguments
    #[arg(value_name = "command")]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub options: ExecOptions,
}

/// Open a login shell in an instance
///
/// The same as: stapes exec <instance> -- su -l
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Shell {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::running_instances))]
    pub instance: String,
    #[command(flatten)]
    pub options: ExecOptions,
}

// No doc comment: it would replace the description of the commands that take these.
#[derive(Debug, Clone, Default, Args)]
pub struct ExecOptions {
    /// Directory to run the command in (default /root)
    #[arg(long, value_name = "directory")]
    pub cwd: Option<String>,
    /// Disable stdin (reads from /dev/null)
    #[arg(short = 'n', long)]
    pub disable_stdin: bool,
    /// Environment variable to set (e.g. HOME=/home/foo) (may be passed multiple times)
    #[arg(long, value_name = "name=value")]
    pub env: Vec<OsString>,
    /// Force pseudo-terminal allocation
    #[arg(short = 't', long)]
    pub force_interactive: bool,
    /// Disable pseudo-terminal allocation
    #[arg(short = 'T', long)]
    pub force_noninteractive: bool,
    /// Group ID to run the command as (default 0)
    #[arg(long, value_name = "gid", value_parser = user::parse_id)]
    pub group: Option<u32>,
    /// Override the terminal mode (auto, interactive or non-interactive)
    #[arg(long, value_name = "mode", default_value = "auto")]
    pub mode: String,
    /// User ID to run the command as (default 0)
    #[arg(long, value_name = "uid", value_parser = user::parse_id)]
    pub user: Option<u32>,
}

impl ExecOptions {
    /// Whether the command gets a pseudo-terminal.
    ///
    /// # Errors
    /// Options that exclude each other, or an unknown mode.
    pub fn interactive(&self, cx: &Context) -> Result<bool> {
        if self.force_interactive && self.force_noninteractive {
            return Err(Error::invalid("You can't pass -t and -T at the same time"));
        }
        if self.mode != "auto" && (self.force_interactive || self.force_noninteractive) {
            return Err(Error::invalid("You can't pass -t or -T at the same time as --mode"));
        }
        if !["auto", "interactive", "non-interactive"].contains(&self.mode.as_str()) {
            return Err(Error::invalid(format!("Unknown terminal mode {:?}", self.mode)));
        }
        Ok(if self.disable_stdin {
            false
        } else if self.force_interactive || self.mode == "interactive" {
            true
        } else if self.force_noninteractive || self.mode == "non-interactive" {
            false
        } else {
            cx.tty.stdin && cx.tty.stdout
        })
    }

    /// The variables to set: `TERM` from here when there is one, then `--env`.
    pub fn environment(&self, cx: &Context) -> Vec<(OsString, OsString)> {
        let term = cx.env.term.iter().map(|term| ("TERM".into(), term.into()));
        let given = self.env.iter().map(|word| {
            let mut parts = word.as_bytes().splitn(2, |byte| *byte == b'=');
            let mut part = || OsStr::from_bytes(parts.next().unwrap_or_default()).to_os_string();
            (part(), part())
        });
        term.chain(given).collect()
    }
}

impl Exec {
    /// Runs the command; its exit status is ours.
    ///
    /// # Errors
    /// See `ops::exec`.
    pub fn run(mut self, cx: &Context) -> Outcome {
        if self.command.is_empty() {
            self.command = LOGIN.map(OsString::from).to_vec();
        }
        let name = kv::local(&self.instance)?;
        let interactive = self.options.interactive(cx)?;
        let store = cx.reader()?;
        let project = cx.project(&store)?;
        let instance = InstanceName::parse(&name).map_err(|_| load::not_found())?;
        if exec::needs_protection(&store, &project, &instance)? {
            process::become_protected()?;
        }
        let process = exec::Process {
            command: self.command,
            env: self.options.environment(cx),
            user: self.options.user.unwrap_or(0),
            group: self.options.group.unwrap_or(0),
            cwd: self.options.cwd.clone(),
            terminal: interactive.then(|| cx.env.term.clone().unwrap_or_default()),
            streams: streams(!self.options.disable_stdin)?,
        };
        let request = exec::Request { project, instance, process };
        let signals = process::signals(&FORWARDED)?;
        Ok(status(exec::exec(store, request, Some(&signals))?))
    }
}

/// Signals of ours that go to the command.
pub(super) const FORWARDED: [Signal; 8] = [
    Signal::SIGWINCH,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// Our streams for a command; without `input` it reads end-of-file.
pub(super) fn streams(input: bool) -> Result<Streams> {
    let null = || Ok::<_, Error>(std::fs::File::open("/dev/null")?.into());
    Ok(Streams {
        input: if input { process::stream(0)? } else { null()? },
        output: process::stream(1)?,
        error: process::stream(2)?,
    })
}

/// A command's status as ours.
pub(super) fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

impl Shell {
    /// Runs `su -l`.
    ///
    /// # Errors
    /// See [`Exec::run`].
    pub fn run(self, cx: &Context) -> Outcome {
        let command = vec!["su".into(), "-l".into()];
        Exec { instance: self.instance, command, options: self.options }.run(cx)
    }
}
