//! `start`, `stop`, `restart`, `pause` and `resume`: one change of state for a list of instances.

use super::complete;
use super::{Context, DONE, Outcome, console, kv, refuse_option, report};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::parallel;
use crate::error::{Error, Result};
use crate::host::notify::Notify;
use crate::ops::foreground::Request;
use crate::ops::{self, idmap, load, start, stop};
use crate::store::Store;
use crate::sys::{process, selfexe};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use nix::sys::signal::Signal;

/// Start instances
#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub console: ConsoleOption,
    /// Stay in the foreground until the instance ends, with its console on standard output
    #[arg(long)]
    pub foreground: bool,
    /// Attempt to boot a specific boot option (set to `ask` for an interactive choice)
    #[arg(long, require_equals = true, num_args = 0..=1, default_missing_value = "ask", value_name = "ask", hide = true)]
    pub override_boot: Option<String>,
    /// Ignore the instance state
    #[arg(long)]
    pub stateless: bool,
}

/// Stop instances
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub console: ConsoleOption,
    #[command(flatten)]
    pub how: StopOptions,
    /// Store the instance state
    #[arg(long)]
    pub stateful: bool,
}

/// Restart instances
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub console: ConsoleOption,
    #[command(flatten)]
    pub how: StopOptions,
}

/// Pause instances
#[derive(Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    pub targets: Targets,
}

/// Resume instances
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    pub targets: Targets,
}

// The structs below are flattened into the commands: doc comments would replace the commands' descriptions.
#[derive(Debug, Clone, Args)]
pub struct Targets {
    /// Instances
    #[arg(value_name = "instance", required_unless_present = "all", add = ArgValueCompleter::new(complete::instances))]
    pub instances: Vec<String>,
    /// Run against all instances
    #[arg(short, long)]
    pub all: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ConsoleOption {
    /// Immediately attach to the console
    #[arg(long, require_equals = true, num_args = 0..=1, default_missing_value = "console", value_name = "console")]
    pub console: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct StopOptions {
    /// Force the instance to stop
    #[arg(short, long)]
    pub force: bool,
    /// Time to wait for the instance to shutdown cleanly
    #[arg(long, value_name = "seconds", default_value_t = -1)]
    pub timeout: i64,
}

/// Which instances are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those named.
    Named(Vec<String>),
    /// All of the project.
    All,
}

impl Targets {
    /// Which instances are meant.
    ///
    /// # Errors
    /// Both `--all` and names, or a remote that is not this host.
    pub fn which(&self) -> Result<Which> {
        if !self.all {
            return Ok(Which::Named(kv::locals(&self.instances)?));
        }
        if !kv::skip_remotes(&self.instances)?.is_empty() {
            return Err(Error::invalid("Both --all and instance name given"));
        }
        Ok(Which::All)
    }
}

impl ConsoleOption {
    /// The console to attach to, if any.
    ///
    /// # Errors
    /// Not with several instances.
    pub fn checked(&self, which: &Which) -> Result<Option<&str>> {
        match (&self.console, which) {
            (None, _) => Ok(None),
            (Some(_), Which::All) => Err(Error::invalid("--console can't be used with --all")),
            (Some(_), Which::Named(names)) if names.len() > 1 => {
                Err(Error::invalid("--console only works with a single instance"))
            }
            (Some(console), _) => Ok(Some(console)),
        }
    }
}

/// What is done to each instance.
type Act<'a> = &'a (dyn Fn(&Store, &ProjectName, &InstanceName) -> Result<()> + Sync);

/// What asks `start --foreground` for the end: the manager, a terminal, and a scope that is stopped.
const FOREGROUND_ORDERS: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGURG];
/// Most instances worked on at once.
const AT_ONCE: usize = 16;

/// Does `act` to every instance meant, several at once; goes on after a failure.
///
/// # Errors
/// Those of [`report::batch`], each with a hint at the instance's log if `hint`.
pub(super) fn each(cx: &Context, which: Which, verb: &str, hint: bool, act: Act<'_>) -> Result<()> {
    let store = cx.store()?;
    let project = cx.project(&store)?;
    let names = match which {
        Which::Named(names) => names,
        Which::All => {
            let all = store.instance_names(&project)?.into_iter();
            all.filter(|name| stop::concerns(&store, &project, name, verb)).map(|name| name.to_string()).collect()
        }
    };
    let count = names.len();
    let failed = parallel::each(names, AT_ONCE, |name| {
        let done = InstanceName::parse(&name).map_err(|_| load::not_found()).and_then(|n| act(&store, &project, &n));
        let e = done.err()?;
        let e = if hint && e.hint_text().is_none() { e.hint(log_hint(cx, &name)) } else { e };
        Some((name, e))
    });
    report::batch(verb, count, failed.into_iter().flatten().collect())
}

fn log_hint(cx: &Context, name: &str) -> String {
    format!("Try `{} info --show-log {name}{}` for more info", cx.env.program(), cx.project_argument())
}

/// Attaches to the console of the one instance that was meant.
fn attach(cx: &Context, which: &Which) -> Outcome {
    match which {
        Which::Named(names) => console::attach(cx, names.first().map_or("", String::as_str), false),
        Which::All => Ok(DONE),
    }
}

impl StopOptions {
    fn options(&self) -> stop::Options {
        let timeout = u64::try_from(self.timeout).ok().map(std::time::Duration::from_secs);
        stop::Options { force: self.force, timeout }
    }
}

impl Start {
    /// Starts instances.
    ///
    /// # Errors
    /// See `ops::start`.
    pub fn run(self, cx: &Context) -> Outcome {
        let which = self.targets.which()?;
        let console = self.console.checked(&which)?;
        refuse_option("--override-boot", self.override_boot.is_some())?;
        if self.foreground {
            return foreground(cx, &which, console.is_some());
        }
        each(cx, which.clone(), "start", true, &start::start)?;
        if console.is_some() { attach(cx, &which) } else { Ok(DONE) }
    }
}

/// Keeps the one instance that was meant until it has ended.
fn foreground(cx: &Context, which: &Which, console: bool) -> Outcome {
    let Which::Named(names) = which else { return Err(Error::invalid("--foreground can't be used with --all").into()) };
    let [name] = names.as_slice() else {
        return Err(Error::invalid("--foreground only works with a single instance").into());
    };
    if console {
        return Err(Error::invalid("--foreground shows the console already; leave out --console").into());
    }
    let name = InstanceName::parse(name).map_err(|_| load::not_found())?;
    let store = cx.store()?;
    let project = cx.project(&store)?;
    // Whoever its root could be on the host must not reach our binary through /proc.
    if idmap::would_reach(&load::load(&store, &project, &name)?.expanded.config, selfexe::owner()?)? {
        process::become_protected()?;
    }
    drop(store);
    let orders = process::signals(&FOREGROUND_ORDERS)?;
    let notify = Notify::new(cx.env.notify_socket.as_deref());
    let output = process::stream(1)?;
    let request =
        Request { layout: &cx.layout, project: &project, name: &name, orders: &orders, notify: &notify, output };
    match ops::foreground::run(&request)? {
        false => Ok(DONE),
        true => {
            let error = Error::failed("The instance has ended unexpectedly");
            Err(error.hint(log_hint(cx, name.as_str())).into())
        }
    }
}

impl Stop {
    /// Stops instances.
    ///
    /// # Errors
    /// See `ops::stop`.
    pub fn run(self, cx: &Context) -> Outcome {
        let which = self.targets.which()?;
        if self.console.checked(&which)?.is_some() && self.how.force {
            return Err(Error::invalid("--console can't be used while forcing instance shutdown").into());
        }
        refuse_option("--stateful", self.stateful)?;
        let options = self.how.options();
        let done = each(cx, which, "stop", true, &|s, p, n| stop::stop(s, p, n, options));
        cx.leave();
        done?;
        Ok(DONE)
    }
}

impl Restart {
    /// Restarts instances.
    ///
    /// # Errors
    /// See `ops::stop`.
    pub fn run(self, cx: &Context) -> Outcome {
        let which = self.targets.which()?;
        let console = self.console.checked(&which)?;
        let options = self.how.options();
        each(cx, which.clone(), "restart", true, &|s, p, n| stop::restart(s, p, n, options))?;
        if console.is_some() { attach(cx, &which) } else { Ok(DONE) }
    }
}

impl Pause {
    /// Freezes instances.
    ///
    /// # Errors
    /// See `ops::stop`.
    pub fn run(self, cx: &Context) -> Outcome {
        each(cx, self.targets.which()?, "pause", false, &stop::pause)?;
        Ok(DONE)
    }
}

impl Resume {
    /// Thaws instances.
    ///
    /// # Errors
    /// See `ops::stop`.
    pub fn run(self, cx: &Context) -> Outcome {
        each(cx, self.targets.which()?, "resume", false, &stop::resume)?;
        Ok(DONE)
    }
}
