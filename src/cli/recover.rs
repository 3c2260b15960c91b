//! `admin recover`: the questions of Incus's, in its order.

use super::{Context, DONE, Outcome, kv};
use crate::base::names::{PoolName, ProjectName};
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::ops::recover::{self as ops, LostPool};
use crate::ops::storage_info;
use crate::storage::{DRIVERS, lvm};
use crate::store::Store;
use clap::Args;

/// Recover missing instances and volumes from existing and unknown storage pools
///
/// This command is mostly used for disaster recovery. It asks for storage pools that exist and whose records are lost, looks through
/// all pools for instances and volumes that have no record, and makes these records again. Profiles, networks and projects that
/// they need have to be there; images are not recovered.
#[derive(Debug, Args)]
pub struct Recover {}

impl Recover {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops::recover`; the answers end too early.
    pub fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let existing = pools(&store)?;
        if !existing.is_empty() {
            cx.line("This server currently has the following storage pools:")?;
            existing.iter().try_for_each(|line| cx.line(format_args!(" - {line}")))?;
        }
        let lost = ask_pools(cx)?;
        cx.line("The recovery process will be scanning the following storage pools:")?;
        existing.iter().try_for_each(|line| cx.line(format_args!(" - EXISTING: {line}")))?;
        lost.iter().try_for_each(|pool| cx.line(format_args!(" - NEW: {}", shown(pool))))?;
        if !yes(cx, "Would you like to continue with scanning for lost volumes?", true)? {
            return Ok(DONE);
        }
        cx.line("Scanning for unknown volumes...")?;
        lost.iter().try_for_each(|pool| ops::adopt(&store, pool))?;
        let Some(found) = scan(cx, &store, !lost.is_empty())? else { return Ok(DONE) };
        if !yes(cx, "Would you like those to be recovered?", false)? {
            return Ok(DONE);
        }
        cx.line("Starting recovery...")?;
        let failed = Error::join(ops::recover(&store, &found));
        ops::conclude(&store)?;
        failed.map_or(Ok(DONE), |e| Err(e.into()))
    }
}

/// What is found, once nothing that it needs is missing any more; none: nothing is.
fn scan(cx: &Context, store: &Store, new_pools: bool) -> Result<Option<ops::Found>> {
    loop {
        let found = ops::scan(store)?;
        found.hopeless.iter().for_each(|why| cx.warn(format_args!("Cannot be recovered: {why}")));
        if found.unknown.is_empty() {
            if !new_pools {
                cx.line("No unknown volumes found. Nothing to do.")?;
            }
            ops::conclude(store)?;
            return Ok(None);
        }
        cx.line("The following unknown volumes have been found:")?;
        found.unknown.iter().try_for_each(|one| cx.line(format_args!(" - {}", one.label())))?;
        if found.missing.is_empty() {
            return Ok(Some(found));
        }
        cx.line("You are currently missing the following:")?;
        found.missing.iter().try_for_each(|what| cx.line(format_args!(" - {what}")))?;
        answer(cx, "Please create those missing entries and then hit ENTER: ")?;
    }
}

/// The pools that there are, as they are listed.
fn pools(store: &Store) -> Result<Vec<String>> {
    let line = |view: &crate::model::view::PoolView| {
        let source = keys::SOURCE.text(&view.put.config);
        format!("{:?} (backend={:?}, source={source:?})", view.name, view.driver)
    };
    Ok(storage_info::list(store, &ProjectName::default())?.iter().map(line).collect())
}

fn shown(pool: &LostPool) -> String {
    format!("{:?} (backend={:?}, source={:?})", pool.name.as_str(), pool.driver, keys::SOURCE.text(&pool.config))
}

fn ask_pools(cx: &Context) -> Result<Vec<LostPool>> {
    let mut all = Vec::new();
    while yes(cx, "Would you like to recover another storage pool?", false)? {
        let name = PoolName::parse(&answer(cx, "Name of the storage pool: ")?)?;
        let driver = answer(cx, &format!("Name of the storage backend ({}): ", DRIVERS.join(", ")))?;
        if !DRIVERS.contains(&driver.as_str()) {
            return Err(Error::invalid(format!("Unknown storage driver \"{driver}\"")));
        }
        let mut config = Config::new();
        let source =
            answer(cx, "Source of the storage pool (path or block device, empty if it is in the state folder): ")?;
        if driver == lvm::DRIVER && !source.contains('/') {
            // A volume group's name.
            config.extend((!source.is_empty()).then(|| (keys::SOURCE.name.to_string(), source)));
        } else if !source.is_empty() {
            keys::SOURCE.set(&mut config, std::path::absolute(source)?.to_string_lossy());
        }
        loop {
            let pair = answer(cx, "Additional storage pool configuration property (KEY=VALUE, empty when done): ")?;
            if pair.is_empty() {
                break;
            }
            config.extend(kv::assignments(&[pair])?.pairs);
        }
        all.push(LostPool { name, driver, config });
    }
    Ok(all)
}

/// A line of standard input. No more lines are no answer.
fn answer(cx: &Context, question: &str) -> Result<String> {
    cx.print(question)?;
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line)? {
        0 => Err(Error::invalid("The answers ended before the questions")),
        _ => Ok(line.trim().to_string()),
    }
}

fn yes(cx: &Context, question: &str, default: bool) -> Result<bool> {
    let shown = if default { "yes" } else { "no" };
    loop {
        match answer(cx, &format!("{question} (yes/no) [default={shown}]: "))?.as_str() {
            "" => return Ok(default),
            "yes" | "y" | "true" | "1" => return Ok(true),
            "no" | "n" | "false" | "0" => return Ok(false),
            _ => cx.line("Invalid input, try again.\n")?,
        }
    }
}
