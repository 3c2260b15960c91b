//! `storage create`, `delete`, `edit`, `get`, `set`, `unset`: what changes pools, and their keys one by one.

use super::complete;
use super::edit::edit;
use super::output::yaml;
use super::storage::pool;
use super::{Context, DONE, Outcome, kv, refuse_target};
use crate::base::names::PoolName;
use crate::error::{Error, Result};
use crate::model::keys::pool::SOURCE;
use crate::model::view::{PoolPut, PoolView};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::storage::{self as ops, Request};
use crate::ops::{quota, storage_info};
use crate::storage::{lvm, zfs};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// Create storage pools
///
/// Drivers are overlay, dir, btrfs, lvm and zfs. Without a source, a pool of overlay or dir lies in the state folder, and one of the
/// others in a loop file. A source is an empty folder, for btrfs also a block device, for lvm a block device or the name of an
/// empty volume group, for zfs a block device or the name of an empty ZFS pool or dataset. It stays when the pool is deleted.
#[derive(Debug, Args)]
#[command(after_help = "stapes storage create s1 dir
    Create a storage pool in the state folder.

stapes storage create s2 btrfs size=20GiB
    Create a storage pool in a loop file of 20GiB.

stapes storage create s3 dir source=/srv/pool
    Create a storage pool in a folder.

stapes storage create s1 dir < config.yaml
    Create a storage pool using the content of config.yaml.")]
pub struct Create {
    /// New storage pool name
    #[arg(value_name = "new pool name")]
    pub name: String,
    /// Driver
    #[arg(value_name = "driver", add = ArgValueCompleter::new(complete::storage_drivers))]
    pub driver: String,
    /// Keys and values
    #[arg(value_name = "key=value", add = ArgValueCompleter::new(complete::pool_keys))]
    pub values: Vec<String>,
    /// Storage pool description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Delete storage pools
///
/// Only pools that nothing uses. A folder or block device that was given as source stays, without what was the pool's.
#[derive(Debug, Args)]
pub struct Delete {
    /// Pools
    #[arg(value_name = "pool", required = true, add = ArgValueCompleter::new(complete::pools))]
    pub pools: Vec<String>,
}

/// Edit storage pool configurations as YAML
#[derive(Debug, Args)]
#[command(after_help = "stapes storage edit s1 < pool.yaml
    Update a storage pool using the content of pool.yaml.")]
pub struct Edit {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
}

/// Get values for storage pool configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::pool_keys))]
    pub key: String,
    /// Get the key as a storage property
    #[arg(short, long)]
    pub property: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Set storage pool configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes storage set [<remote>:]<pool> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::pool_keys))]
    pub values: Vec<String>,
    /// Set the key as a storage property
    #[arg(short, long)]
    pub property: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Unset storage pool configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::pool_keys))]
    pub key: String,
    /// Unset the key as a storage property
    #[arg(short, long)]
    pub property: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

impl Create {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::create`].
    pub fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let mut put: PoolPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.values)?)?);
        // It may be the name of a volume group, or of a ZFS pool or dataset.
        let is_path = |source: &&str| match self.driver.as_str() {
            lvm::DRIVER => source.contains('/'),
            zfs::DRIVER => source.starts_with(['/', '.']),
            _ => true,
        };
        if let Some(source) = SOURCE.get(&put.config).filter(is_path) {
            // The user's working folder is the front's to know.
            let path = std::path::absolute(source)?;
            SOURCE.set(&mut put.config, path.to_string_lossy());
        }
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        if self.driver.is_empty() {
            return Err(Error::invalid("No driver provided").into());
        }
        let name = PoolName::parse(&kv::local(&self.name)?)?;
        let request = Request { name, driver: self.driver, description: put.description, config: put.config };
        let store = cx.store()?;
        ops::create(&store, &request)?;
        quota::warning(&store, &request.name)?.iter().for_each(|text| cx.warn(text));
        cx.notice(format_args!("Storage pool {} created", request.name))?;
        Ok(DONE)
    }
}

impl Delete {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::delete`]; the others are deleted.
    pub fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let mut failed = Vec::new();
        for word in &self.pools {
            match pool(word).and_then(|name| ops::delete(&store, &name)) {
                Ok(()) => cx.notice(format_args!("Storage pool {word} deleted"))?,
                Err(e) => failed.push(e),
            }
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

const EDIT_HELP: &str = "### This is a YAML representation of a storage pool.
### Any line starting with a '#' will be ignored.
###
### A storage pool consists of a set of configuration items.
###
### An example would look like:
### name: default
### driver: btrfs
### used_by: []
### config:
###   size: 20GiB
###   source: /var/lib/stapes/disks/default.img";

fn shown(cx: &Context, word: &str) -> Result<PoolView> {
    storage_info::show(&cx.reader()?, &pool(word)?)
}

impl Edit {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::update`].
    pub fn run(self, cx: &Context) -> Outcome {
        let text = match cx.tty.stdin {
            true => yaml::document(&shown(cx, &self.pool)?)?,
            false => String::new(),
        };
        edit(cx, EDIT_HELP, &text, &mut |text| {
            let put: PoolPut = document_of(text)?;
            ops::update(&cx.store()?, &pool(&self.pool)?, &mut |target| {
                *target = put.clone();
                Ok(())
            })
        })?;
        Ok(DONE)
    }
}

impl Get {
    /// Runs the command.
    ///
    /// # Errors
    /// Not found; no such property.
    pub fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let mut put = shown(cx, &self.pool)?.put;
        cx.value(&mut put, (&self.key, self.property), &format!("storage pool {:?}", self.pool))?;
        Ok(DONE)
    }
}

impl Set {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::update`].
    pub fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let change = Change::Set(cx.values(kv::assignments(&self.values)?)?);
        changed(cx, &self.pool, self.property, &change)
    }
}

impl Unset {
    /// Runs the command.
    ///
    /// # Errors
    /// See [`ops::update`].
    pub fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        changed(cx, &self.pool, self.property, &Change::Unset(vec![self.key]))
    }
}

fn changed(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    let (store, name) = (cx.store()?, pool(word)?);
    ops::update(&store, &name, &mut |put| match (property, change) {
        (true, change) => change_properties(put, change),
        (false, Change::Set(pairs)) => {
            put.config.extend(pairs.iter().cloned());
            Ok(())
        }
        (false, Change::Unset(keys)) => {
            put.config.retain(|key, _| !keys.contains(key));
            Ok(())
        }
    })?;
    quota::warning(&store, &name)?.iter().for_each(|text| cx.warn(text));
    Ok(DONE)
}
