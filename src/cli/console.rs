//! `console`: the terminal an instance boots on, and its log.

use super::complete;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::InstanceName;
use crate::error::Error;
use crate::ops::{console, load, logs};
use crate::sys::process;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;

/// Attach to instance consoles
///
/// This command allows you to interact with the boot console of an instance
/// as well as retrieve past log entries from it.
///
/// To detach from the console, press: <ctrl>+a q
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Console {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Forces a connection to the console, even if there is already an active session
    #[arg(short, long)]
    pub force: bool,
    /// Retrieve the instance's console log
    #[arg(long)]
    pub show_log: bool,
    /// Type of connection to establish: 'console' for serial console, 'vga' for SPICE graphical output
    #[arg(short = 't', long = "type", value_name = "type", default_value = "console")]
    pub kind: String,
}

impl Console {
    /// Attaches, or prints the log.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.instance)?;
        if !["console", "vga"].contains(&self.kind.as_str()) {
            return Err(Error::invalid(format!("Unknown output type {:?}", self.kind)).into());
        }
        if self.show_log && self.kind != "console" {
            return Err(Error::invalid("The --show-log flag is only supported for by 'console' output type").into());
        }
        if self.kind == "vga" {
            return Err(Error::unsupported("VGA consoles are only supported by virtual machines").into());
        }
        if !self.show_log {
            return attach(cx, &name, self.force);
        }
        let store = cx.reader()?;
        let project = cx.project(&store)?;
        let log = logs::console(&store, &project, &instance(&name)?)?;
        cx.line(format_args!("Console log:\n"))?;
        cx.line(String::from_utf8_lossy(&log).trim_end_matches('\n'))?;
        Ok(DONE)
    }
}

fn instance(name: &str) -> Result<InstanceName, Error> {
    InstanceName::parse(name).map_err(|_| load::not_found())
}

/// Attaches our terminal to the console of the instance `name`.
///
/// # Errors
/// See `ops::console`.
pub(super) fn attach(cx: &Context, name: &str, force: bool) -> Outcome {
    let store = cx.reader()?;
    let project = cx.project(&store)?;
    let name = instance(name)?;
    let signals = process::signals(&[Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP])?;
    let (input, output) = (process::stream(0)?, process::stream(1)?);
    if cx.tty.stdin {
        cx.print("To detach from the console, press: <ctrl>+a q\n")?;
    }
    let ended = console::attach(&store, (&project, &name), (input.as_fd(), output.as_fd()), force, &signals)?;
    if cx.tty.stdin && ended == console::Ended::Detached {
        cx.print("\n")?;
    }
    Ok(DONE)
}
