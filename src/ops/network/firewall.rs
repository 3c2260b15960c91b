//! The firewall rules of networks, handed to nft as one transaction, with what other firewalls on the host need.

use super::beside;
use crate::base::names::NetworkName;
use crate::error::{Context, Error, Kind, Result};
use crate::host::command::{Cmd, Host, Program, Runner, Stdin};
use crate::model::network::bridge::Bridge;
use crate::network::nft::coexist::{self, Fix, Ruleset};
use crate::network::nft::listing::Listing;
use crate::network::nft::nic::Kernel;
use crate::network::nft::{Script, Tables, network};
use crate::ops::load;
use crate::store::Store;
use std::path::Path;
use std::time::Duration;

const NFT: Program = Program { name: "nft", package: "nftables" };
const FIREWALLD: Program = Program { name: "firewall-cmd", package: "firewalld" };
/// Its daemon does not run (firewall-cmd(1)).
const NOT_RUNNING: i32 = 252;
/// The bus over which it is spoken to cannot be reached; nor can the daemon if there is none.
const NO_BUS: (i32, &str) = (36, "/run/dbus/system_bus_socket");
/// How long either may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the rules are read again that another program changes meanwhile.
const ATTEMPTS: u32 = 3;

/// Is nft there?
///
/// # Errors
/// Unsupported: it is missing.
pub(super) fn program() -> Result<()> {
    Host::default().find(NFT).map(drop)
}

/// Our tables.
pub(in crate::ops) fn tables(store: &Store) -> Tables {
    Tables::new(load::tag(store.layout()).as_deref())
}

/// Sets the rules of a bridge, in the place of those it has, and `more` in the same transaction.
///
/// # Errors
/// nft is missing or refuses: nothing has changed then.
pub(super) fn up(store: &Store, name: &NetworkName, bridge: &Bridge, more: &Script) -> Result<()> {
    let tables = tables(store);
    let mut script = network::up(name, bridge);
    script.append(super::forwards::script(store, name, bridge)?);
    script.append(more.clone());
    together(store, &tables, &script, &|there| coexist::up(&tables, name, bridge, there))
        .with_context(|| format!("Failed setting the firewall rules of network \"{name}\""))
}

/// Takes the rules of a bridge away; none being there is fine, and so is no nft: then there are none.
///
/// # Errors
/// nft refuses.
pub(super) fn down(store: &Store, name: &NetworkName) -> Result<()> {
    let tables = tables(store);
    let others = |there: &Ruleset| coexist::down(&tables, name, there);
    let gone = together(store, &tables, &network::down(name), &others).and_then(|()| tidy_without(store, Some(name)));
    match gone {
        Err(e) if e.kind() == Kind::Unsupported => Ok(()),
        other => other.with_context(|| format!("Failed removing the firewall rules of network \"{name}\"")),
    }
}

/// Carries out a change of our own rules that needs nothing of others'.
///
/// # Errors
/// nft is missing or refuses: nothing has changed then.
pub(in crate::ops) fn set(store: &Store, script: &Script) -> Result<()> {
    if script.is_empty() { Ok(()) } else { apply(store, &script.text(&tables(store))) }
}

/// The same for what is to go: without nft there is nothing.
///
/// # Errors
/// nft refuses.
pub(in crate::ops) fn unset(store: &Store, script: &Script) -> Result<()> {
    match set(store, script) {
        Err(e) if e.kind() == Kind::Unsupported => Ok(()),
        other => other,
    }
}

/// Removes our tables if no network is up and nothing else of ours is in them; no nft is fine.
///
/// # Errors
/// nft refuses.
pub(in crate::ops) fn tidy(store: &Store) -> Result<()> {
    tidy_without(store, None)
}

/// The same when this network goes down.
fn tidy_without(store: &Store, leaving: Option<&NetworkName>) -> Result<()> {
    if store.network_runs()?.iter().any(|name| Some(name) != leaving) {
        return Ok(());
    }
    let tables = tables(store);
    match are_empty(&tables) {
        Err(e) if e.kind() == Kind::Unsupported => Ok(()),
        Err(e) => Err(e),
        Ok(Some(true)) => apply(store, &no_tables(&tables)),
        Ok(_) => Ok(()),
    }
}

/// Are our tables without chains? None if there are none.
fn are_empty(tables: &Tables) -> Result<Option<bool>> {
    let mut all = None;
    for family in ["inet", "bridge", "netdev"] {
        let list = Cmd::new(NFT).args(["list", "table", family, &tables.name().to_string()]).timeout(PATIENCE);
        let out = Host::default().run_with(list, None)?;
        if out.status.success() {
            let empty = !String::from_utf8_lossy(&out.stdout).lines().any(|l| l.trim_start().starts_with("chain "));
            all = Some(all.unwrap_or(true) && empty);
        }
    }
    Ok(all)
}

/// What of nftables for bridges the kernel has: it is asked to check a rule each, and loads what it needs for them.
///
/// # Errors
/// nft is missing.
pub(super) fn kernel(store: &Store) -> Result<Kernel> {
    let name = format!("{}-probe", tables(store).name());
    let takes = |rule: &str| -> Result<bool> {
        let text = format!(
            "add table bridge {name}\nadd chain bridge {name} c {{ type filter hook input priority 0; }}\n\
             add rule bridge {name} c {rule}\n"
        );
        let command = Cmd::new(NFT).args(["-c", "-f", "-"]).stdin(Stdin::Bytes(text.into_bytes())).timeout(PATIENCE);
        Ok(Host::default().run_with(command, None)?.status.success())
    };
    Ok(Kernel { conntrack: takes("ct state established accept")?, reject: takes("reject")? })
}

/// What of ACLs and filters stands in our tables; none where nft is missing or may not be asked.
///
/// # Errors
/// Its output is not understood.
pub(super) fn listing(store: &Store) -> Result<Option<Listing>> {
    let tables = tables(store);
    let mut all = Listing::default();
    for what in ["chains", "sets"] {
        let command = Cmd::new(NFT).args(["-j", "list", what]).timeout(PATIENCE);
        match Host::default().run_with(command, None) {
            Ok(out) if out.status.success() => all.read(&tables, &String::from_utf8_lossy(&out.stdout))?,
            _ => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// The same where no network is up that would take the tables along: they go with their last chain.
///
/// # Errors
/// nft refuses.
pub(super) fn unset_alone(store: &Store, script: &Script) -> Result<()> {
    unset(store, script)?;
    tidy(store)
}

/// Removes our tables with all that is in them, whether they are there or not: nft before 1.0.8 knows no `destroy`.
fn no_tables(tables: &Tables) -> String {
    let name = tables.name();
    let lines = ["inet", "bridge", "netdev"].map(|f| format!("add table {f} {name}\ndelete table {f} {name}\n"));
    lines.concat()
}

/// One transaction of ours with what others need; read anew if they changed something in between.
fn together(store: &Store, tables: &Tables, script: &Script, others: &dyn Fn(&Ruleset) -> Fix) -> Result<()> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let fix = others(&ruleset()?);
        match apply(store, &format!("{}{}", script.text(tables), fix.script)) {
            Ok(()) => return fix.firewalld.map_or(Ok(()), firewalld),
            // Without rules among those of others nothing can have vanished.
            Err(e) if fix.script.is_empty() => return Err(e),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| Error::internal("No attempt was made")))
}

fn apply(store: &Store, text: &str) -> Result<()> {
    let command = Cmd::new(NFT).args(["-f", "-"]).stdin(Stdin::Bytes(text.as_bytes().to_vec())).timeout(PATIENCE);
    beside::across(store, || Host::default().run(command).map(drop))
}

fn ruleset() -> Result<Ruleset> {
    let list = Host::default().run(Cmd::new(NFT).args(["-j", "-a", "list", "ruleset"]).timeout(PATIENCE))?;
    Ruleset::parse(&String::from_utf8_lossy(&list.stdout))
}

/// All rules of the host, and what networks need of them.
pub(super) struct Look {
    tables: Tables,
    there: Ruleset,
}

impl Look {
    /// Lists them.
    ///
    /// # Errors
    /// nft is missing, or its output is not understood.
    pub(super) fn take(store: &Store) -> Result<Self> {
        Ok(Self { tables: tables(store), there: ruleset()? })
    }

    /// Are the rules of a bridge there, those among the rules of others too?
    pub(super) fn has(&self, name: &NetworkName, bridge: &Bridge) -> bool {
        self.has_own(name, bridge) && coexist::up(&self.tables, name, bridge, &self.there).is_empty()
    }

    /// Is all there that this sets in our tables?
    pub(super) fn has_script(&self, script: &Script) -> bool {
        self.there.has_all(&self.tables, script)
    }

    /// Are those there that are all ours?
    pub(super) fn has_own(&self, name: &NetworkName, bridge: &Bridge) -> bool {
        self.there.has_all(&self.tables, &network::up(name, bridge))
    }
}

/// Its daemon need not run although its rules are there.
fn firewalld(arguments: Vec<String>) -> Result<()> {
    match Host::default().run_with(Cmd::new(FIREWALLD).args(arguments).timeout(PATIENCE), None) {
        Err(e) if e.kind() == Kind::Unsupported => Ok(()),
        Ok(out) if out.status.code() == Some(NOT_RUNNING) => Ok(()),
        Ok(out) if out.status.code() == Some(NO_BUS.0) && !Path::new(NO_BUS.1).exists() => Ok(()),
        other => other?.success(FIREWALLD).map(drop),
    }
}
