//! The names that completion offers, read from the state folder; nothing where something is wrong.
//!
//! Called by [`super::complete`] only, in a process that a shell started for this: the project and the folder are those of
//! the environment, for what the command line says is not parsed yet.

use super::context::Context;
use super::env::Env;
use crate::base::names::{InstanceName, NetworkName, PoolName, ProfileName, ProjectName, VolumeName};
use crate::image::bootstrap as recipes;
use crate::image::simplestreams::Offer;
use crate::model::keys as registry;
use crate::model::network::NetworkType;
use crate::ops::features;
use crate::ops::image_remote::Place;
use crate::ops::instance_metadata;
use crate::ops::network;
use crate::ops::profile;
use crate::ops::undo;
use crate::ops::volume;
use crate::store::lock::VolumeKey;
use crate::store::{Access, Store};
use std::collections::BTreeSet;

/// The words of the command line so far, without the program's own.
fn words() -> Vec<String> {
    let all = std::env::args_os().skip_while(|w| w != "--").skip(2);
    all.map(|w| w.to_string_lossy().into_owned()).collect()
}

fn open() -> Option<(Store, ProjectName)> {
    let argv0 = std::env::args_os().next().unwrap_or_default();
    let env = Env::read(&argv0);
    let words = words();
    let uid = nix::unistd::geteuid().as_raw();
    let layout = env.layout(option(&words, "--state-dir").map(std::path::Path::new), uid)?;
    let store = undo::open(&layout, Access::Read).ok()?;
    let named = option(&words, "--project").map(str::to_string).or(env.project);
    Some((store, named.map_or_else(|| Some(ProjectName::default()), |name| ProjectName::parse(&name).ok())?))
}

/// The value of an option that stands before the cursor.
fn option<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let at = words.iter().position(|w| w == name || w.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))?;
    match words[at].split_once('=') {
        Some((_, value)) => Some(value),
        None => words.get(at + 1).map(String::as_str),
    }
}

/// Instances of the project; only running ones if `running`.
pub fn instances(running: bool) -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let names = store.instance_names(&project).ok()?;
        let wanted = |name: &InstanceName| !running || store.has_monitor(&project, name).unwrap_or(false);
        Some(names.iter().filter(|n| wanted(n)).map(ToString::to_string).collect())
    };
    list().unwrap_or_default()
}

/// Snapshots of the instances that stand on the command line.
pub fn snapshots() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let words = words();
        let instances = words.iter().map(|w| w.strip_prefix("local:").unwrap_or(w));
        let instances = instances.filter_map(|w| InstanceName::parse(w).ok());
        let names = instances.filter_map(|n| store.snapshots(&project, &n).ok()).flatten();
        Some(names.map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Templates of the instances that stand on the command line.
pub fn templates() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let words = words();
        let instances = words.iter().filter_map(|w| InstanceName::parse(w.strip_prefix("local:").unwrap_or(w)).ok());
        let all =
            instances.flat_map(|name| instance_metadata::templates(&store, (&project, &name)).unwrap_or_default());
        Some(all.collect())
    };
    list().unwrap_or_default()
}

/// Aliases of local images, and short fingerprints of those that have none.
pub fn images() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        features::images(&store, &project);
        let aliases = store.aliases().ok()?;
        let named: BTreeSet<&str> = aliases.aliases.values().map(|a| a.target.as_str()).collect();
        let images = store.images().ok()?;
        let bare = images.iter().filter(|(f, _)| !named.contains(f.as_str())).map(|(f, _)| f.short().to_string());
        Some(aliases.aliases.keys().map(ToString::to_string).chain(bare).collect())
    };
    list().unwrap_or_default()
}

/// Images of servers as `remote:alias`, from the lists that are kept; `remote:` of each until one is typed. Nobody is asked.
pub fn offered(typed: &str) -> Vec<String> {
    let list = || {
        let argv0 = std::env::args_os().next().unwrap_or_default();
        let cx = Context::quiet(Env::read(&argv0), option(&words(), "--state-dir").map(std::path::Path::new))?;
        let remotes = cx.folders().load().ok()?;
        let Some((remote, _)) = typed.split_once(':') else {
            return Some(remotes.remotes.keys().map(|name| format!("{name}:")).collect());
        };
        match cx.place(remote).ok()? {
            Place::Server(server) => {
                let names = |offer: Offer| offer.names().collect::<Vec<_>>();
                Some(server.known().into_iter().flat_map(names).map(|name| format!("{remote}:{name}")).collect())
            }
            Place::Local | Place::Bootstrap | Place::Registry(_) => None,
        }
    };
    list().unwrap_or_default()
}

/// What the bootstrap: remote can build.
pub fn bootstrap() -> Vec<String> {
    recipes::list().into_iter().map(|(alias, _)| alias).collect()
}

/// The user's aliases of commands.
pub fn command_aliases() -> Vec<String> {
    let env = Env::read(&std::env::args_os().next().unwrap_or_default());
    env.folders().aliases().map(|all| all.into_keys().collect()).unwrap_or_default()
}

/// Profiles of the project.
pub fn profiles() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = profile::owner(&store, &project).ok()?;
        Some(store.profiles(&owner).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Managed networks of the project.
pub fn networks() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = network::project_of(&store, &project).ok()?;
        Some(store.networks(&owner).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Network ACLs of the project.
pub fn acls() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = network::project_of(&store, &project).ok()?;
        Some(store.acls(&owner).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Address sets of the project.
pub fn address_sets() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = network::project_of(&store, &project).ok()?;
        Some(store.address_sets(&owner).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Forwards of the networks that stand on the command line.
pub fn forwards() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = network::project_of(&store, &project).ok()?;
        let words = words();
        let named = words.iter().filter_map(|w| NetworkName::parse(w.strip_prefix("local:").unwrap_or(w)).ok());
        let all = named.flat_map(|n| store.forwards(&owner, &n).unwrap_or_default());
        Some(all.map(|(listen, _)| listen.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// DNS zones of the project.
pub fn zones() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = network::zones::project_of(&store, &project).ok()?;
        Some(store.zones(&owner).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Keys of bridges, which have most of them.
pub fn network_keys() -> Vec<String> {
    let all = registry::network::all(NetworkType::Bridge).map(|key| key.key.name);
    all.filter(|name| name.contains('.') && !registry::is_volatile(name)).map(String::from).collect()
}

/// Projects.
pub fn projects() -> Vec<String> {
    let list = || Some(open()?.0.projects().ok()?.into_iter().map(|(name, _)| name.to_string()).collect());
    list().unwrap_or_default()
}

/// Storage pools.
pub fn pools() -> Vec<String> {
    let list = || Some(open()?.0.pools().ok()?.into_iter().map(|(name, _)| name.to_string()).collect());
    list().unwrap_or_default()
}

/// Custom volumes of the pools that stand on the command line.
pub fn volumes() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = volume::project_of(&store, &project).ok()?;
        let words = words();
        let pools = words.iter().filter_map(|w| PoolName::parse(w.strip_prefix("local:").unwrap_or(w)).ok());
        let all = pools.flat_map(|pool| store.volumes(&owner, &pool).unwrap_or_default());
        Some(all.map(|(name, _)| name.to_string()).collect())
    };
    list().unwrap_or_default()
}

/// Snapshots of the custom volumes that stand on the command line, behind their pools.
pub fn volume_snapshots() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let owner = volume::project_of(&store, &project).ok()?;
        let words: Vec<String> = words().iter().map(|w| w.strip_prefix("local:").unwrap_or(w).to_string()).collect();
        let mut names = BTreeSet::new();
        for (pool, volume) in words.iter().zip(words.iter().skip(1)) {
            let (Ok(pool), Ok(name)) = (PoolName::parse(pool), VolumeName::parse(volume)) else { continue };
            let key = VolumeKey { project: owner.clone(), pool, name };
            let found = store.volume_snapshots(&key).unwrap_or_default();
            names.extend(found.into_iter().map(|(name, _)| name.to_string()));
        }
        Some(names.into_iter().collect())
    };
    list().unwrap_or_default()
}

/// Keys of custom volumes.
pub fn volume_keys() -> Vec<String> {
    registry::volume::TABLE.iter().map(|key| key.name.to_string()).collect()
}

/// Names of storage drivers.
pub fn storage_drivers() -> Vec<String> {
    crate::storage::DRIVERS.iter().map(ToString::to_string).collect()
}

/// Keys of pools on btrfs, which have most of them.
pub fn pool_keys() -> Vec<String> {
    let all = registry::pool::all("btrfs").chain(registry::pool::all("dir")).map(|key| key.name);
    let wanted: BTreeSet<String> = all.filter(|name| !registry::is_volatile(name)).map(String::from).collect();
    wanted.into_iter().collect()
}

/// Options of projects.
pub fn project_keys() -> Vec<String> {
    registry::project::TABLE.iter().map(|key| key.name.to_string()).collect()
}

/// Instance configuration keys, and prefixes of those with free ends.
pub fn keys() -> Vec<String> {
    let all = registry::all().map(|key| key.name);
    all.filter(|name| !registry::is_volatile(name) && name.contains('.')).map(String::from).collect()
}

/// Keys of the server.
pub fn server_keys() -> Vec<String> {
    registry::server_keys().map(String::from).collect()
}

/// Devices of the instance or profile that stands on the command line.
pub fn devices() -> Vec<String> {
    let list = || {
        let (store, project) = open()?;
        let words = words();
        let of_profile = words.first().is_some_and(|w| w == "profile");
        let mut names = BTreeSet::new();
        // The engine does not say which word is which: those that are an owner's name count.
        for word in words.iter().map(|w| w.strip_prefix("local:").unwrap_or(w)) {
            let found = match of_profile {
                true => {
                    let owner = profile::owner(&store, &project).ok()?;
                    ProfileName::parse(word).ok().and_then(|n| store.profile(&owner, &n).ok()?).map(|p| p.devices)
                }
                false => {
                    InstanceName::parse(word).ok().and_then(|n| store.instance(&project, &n).ok()?).map(|i| i.devices)
                }
            };
            names.extend(found.unwrap_or_default().into_keys());
        }
        Some(names.into_iter().collect())
    };
    list().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_before_the_cursor() {
        let words: Vec<String> = ["--project=p", "list", "--state-dir", "/x", "--projector"].map(String::from).to_vec();
        assert_eq!((option(&words, "--project"), option(&words, "--state-dir")), (Some("p"), Some("/x")));
        assert_eq!((option(&words, "--no"), option(&words[2..3], "--state-dir")), (None, None));
    }

    #[test]
    fn keys_are_whole_names() {
        let all = keys();
        assert!(all.iter().any(|k| k == "user.") && all.iter().all(|k| k.contains('.')));
        assert!(server_keys().iter().any(|k| k.starts_with("core.")));
    }
}
