//! `admin`: the host's boot and shutdown, and the words of Incus's daemon that mean little without one.

use super::output::yaml;
use super::{Context, DONE, Outcome, image_copy, report};
use crate::base::names::{Fingerprint, ProjectName};
use crate::base::time;
use crate::error::{Context as _, Error, Result};
use crate::ops::config::document_of;
use crate::ops::init;
use crate::ops::maintain;
use crate::ops::power::{self, Shutdown as How};
use crate::store::Store;
use clap::{Args, Subcommand};
use std::time::Duration;

/// How long after a failure an instance is started again, as in Incus.
const RETRY: Duration = Duration::from_secs(5);

/// Manage the instances of this host
#[derive(Debug, Subcommand)]
pub enum Admin {
    Boot(Boot),
    Init(Init),
    Maintain(Maintain),
    Recover(super::recover::Recover),
    Shutdown(Shutdown),
    Waitready(Waitready),
}

/// Start the instances that run with the host
///
/// Starts every instance that has boot.autostart=true, and those that ran when the host went down unless
/// boot.autostart=false: first those without a boot.autostart.priority, side by side, then the others from the highest
/// priority on, each followed by a pause of boot.autostart.delay seconds. Instances that run already are left alone.
#[derive(Debug, Args)]
pub struct Boot {}

/// Choose storage, networks and profiles
///
/// Nothing has to be set up: the first command that needs them makes a storage pool, a bridge and a profile with both.
/// --minimal and --auto do that now; --preseed reads what to make instead from standard input, a YAML document as Incus's:
/// config, networks, storage_pools and profiles. What is there already is changed to what the document says.
#[derive(Debug, Args)]
#[command(after_help = "stapes admin init --minimal
    Make the storage pool, the bridge and the default profile now.

stapes admin init --auto --storage-backend btrfs --storage-create-loop 20
    The same, with a storage pool in a file of 20GiB.

stapes admin init --preseed < preseed.yaml
    Make what the document says.

stapes admin init --dump > preseed.yaml
    Print the document of what there is.")]
pub struct Init {
    /// Automatic (non-interactive) mode
    #[arg(long, conflicts_with_all = ["preseed", "dump"])]
    pub auto: bool,
    /// Dump YAML config to stdout
    #[arg(long, conflicts_with = "preseed")]
    pub dump: bool,
    /// Minimal configuration (non-interactive)
    #[arg(long, conflicts_with_all = ["preseed", "dump"])]
    pub minimal: bool,
    /// Pre-seed mode, expects YAML config from stdin
    #[arg(long)]
    pub preseed: bool,
    /// Storage backend to use (btrfs, dir, lvm, overlay or zfs; default: what suits the file system)
    #[arg(long, value_name = "backend", requires = "auto")]
    pub storage_backend: Option<String>,
    /// Setup device based storage using a block device
    #[arg(long, value_name = "device", requires = "auto")]
    pub storage_create_device: Option<String>,
    /// Setup loop based storage with a size in GiB
    #[arg(long, value_name = "GiB", requires = "auto")]
    pub storage_create_loop: Option<u64>,
    /// Storage pool to use or create
    #[arg(long, value_name = "pool", requires = "auto")]
    pub storage_pool: Option<String>,
    /// Refused: there is no server that could listen
    #[arg(long, value_name = "address", hide = true)]
    pub network_address: Option<String>,
    /// Refused: there is no server that could listen
    #[arg(long, value_name = "port", hide = true)]
    pub network_port: Option<String>,
    /// The document, instead of standard input
    #[arg(value_name = "preseed.yaml", requires = "preseed", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<std::path::PathBuf>,
}

/// Do what is due by the clock
///
/// Takes the snapshots that snapshots.schedule asks for, deletes snapshots and cached images that have expired, and replaces
/// images that follow a server. What was missed since the last run is done once. Run it every few minutes: from a timer of
/// systemd (examples/systemd has one) or from cron.
#[derive(Debug, Args)]
pub struct Maintain {}

/// Stop all instances because the host goes down
///
/// Stops all instances of all projects, from the highest boot.stop.priority on, each as its boot.host_shutdown_action says
/// and within its boot.host_shutdown_timeout; what has not stopped by then is killed. They are started again by "admin boot".
#[derive(Debug, Args)]
pub struct Shutdown {
    /// Force the instances to stop instead of waiting for them
    #[arg(short, long)]
    pub force: bool,
    /// Number of seconds to wait before giving up on clean stops
    #[arg(short, long, value_name = "seconds")]
    pub timeout: Option<u64>,
}

/// Wait for the daemon to be ready to process requests
///
/// There is no daemon: it returns at once.
#[derive(Debug, Args)]
pub struct Waitready {
    /// Number of seconds to wait before giving up
    #[arg(short, long, value_name = "seconds")]
    pub timeout: Option<u64>,
}

impl Admin {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops::power`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Boot(_) => {
                conclude(cx, "start", power::boot(&cx.store()?, RETRY)?)?;
            }
            Self::Init(options) => options.run(cx)?,
            Self::Maintain(_) => {
                let mut refresh = |store: &Store, image: &Fingerprint| image_copy::refresh(cx, store, image);
                told(cx, maintain::maintain(&cx.store()?, time::now(), &mut refresh)?)?;
            }
            Self::Recover(recover) => return recover.run(cx),
            Self::Shutdown(options) => {
                let how = How { force: options.force, timeout: options.timeout.map(Duration::from_secs) };
                let outcome = power::shutdown(&cx.store()?, how)?;
                cx.leave();
                conclude(cx, "stop", outcome)?;
            }
            Self::Waitready(_) => {}
        }
        Ok(DONE)
    }
}

impl Init {
    fn run(self, cx: &Context) -> Result<()> {
        if self.network_address.is_some() || self.network_port.is_some() {
            return Err(Error::unsupported("There is no server that could listen on the network")
                .hint("leave --network-address and --network-port out"));
        }
        if self.dump {
            return cx.print(yaml::document(&init::dump(&cx.reader()?)?)?);
        }
        if self.preseed {
            let text = match &self.file {
                Some(path) => {
                    let fail = || format!("Failed reading the preseed {}", path.display());
                    Some(std::fs::read_to_string(path).with_context(fail)?)
                }
                None => cx.stdin_document()?,
            };
            let document = document_of(&text.unwrap_or_default()).context("Failed to parse the preseed")?;
            return init::preseed(&cx.store()?, &document);
        }
        let auto = init::Auto {
            backend: self.storage_backend,
            device: self.storage_create_device,
            loop_size: self.storage_create_loop,
            pool: self.storage_pool,
        };
        if auto != init::Auto::default() {
            init::auto(&cx.store()?, &auto)?.iter().for_each(|e| cx.warn(e));
            return Ok(());
        }
        if self.minimal || self.auto {
            return cx.first_use(&cx.store()?);
        }
        Err(Error::unsupported("Questions are not asked by this version")
            .hint("use --minimal for the defaults, or --preseed to choose; nothing has to be set up at all"))
    }
}

/// Says what maintenance did.
fn told(cx: &Context, outcome: maintain::Outcome) -> Result<()> {
    outcome.done.iter().try_for_each(|line| cx.notice(line))?;
    let count = outcome.done.len() + outcome.failed.len();
    report::batch("maintain", count.max(2), outcome.failed)
}

fn conclude(cx: &Context, verb: &str, outcome: power::Outcome) -> Result<()> {
    outcome.remarks.iter().for_each(|remark| cx.warn(remark));
    let count = outcome.done.len() + outcome.failed.len();
    let label = |(project, name): power::Who| match project == ProjectName::default() {
        true => name.to_string(),
        false => format!("{project}/{name}"),
    };
    let failed: Vec<(String, Error)> = outcome.failed.into_iter().map(|(who, e)| (label(who), e)).collect();
    // One failure is named, too: nobody asked for this instance by name.
    report::batch(verb, count.max(2), failed)
}
