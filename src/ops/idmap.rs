//! The id map of a container: from the host's range and its configuration (`incus-reference` of the project's texts,
//! "ID maps": shared unless isolated, `raw.idmap` punched in).

use crate::base::idmap::{Entry, IdMap};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Error, Result};
use crate::host::subids::{self, MINIMUM};
use crate::model::instance::Config;
use crate::model::keys::{self, volatile_value};
use crate::store::Store;
use crate::store::lock::{Allocator, Exclusive, Held};

/// Size of an isolated map that says nothing else.
const ISOLATED_SIZE: u32 = MINIMUM;

/// The map, or none for a privileged container. `config` is the expanded configuration; `base`: the first host id that was
/// given to an isolated container (see [`isolated_base`]).
///
/// # Errors
/// [`crate::error::Kind::Invalid`] if the configuration asks for more than the host's range.
pub fn of(config: &Config, base: Option<u32>) -> Result<Option<IdMap>> {
    if keys::SECURITY_PRIVILEGED.bool(config)? {
        return Ok(None);
    }
    let host = subids::range()?;
    let wanted = keys::SECURITY_IDMAP_SIZE.u32(config)?;
    let isolated = keys::SECURITY_IDMAP_ISOLATED.bool(config)?;
    let (base, size) = if isolated {
        let base = keys::SECURITY_IDMAP_BASE.u32(config)?.or(base);
        let base = base.ok_or_else(|| Error::internal("An isolated container has no id range"))?;
        (base, wanted.unwrap_or(ISOLATED_SIZE))
    } else {
        (host.base, wanted.unwrap_or(host.size).min(host.size))
    };
    let end = u64::from(base) + u64::from(size);
    if size < MINIMUM && !isolated || base < host.base || end > u64::from(host.base) + u64::from(host.size) {
        return Err(Error::invalid(format!(
            "Not enough uid/gid available for the container: {size} ids from {base} are not in the host's range"
        )));
    }
    let mut map = IdMap::simple(base, size)?;
    if let Some(raw) = keys::RAW_IDMAP.get(config) {
        map.insert_all(&IdMap::parse_raw(raw)?)?;
    }
    Ok(Some(map))
}

/// True if a container with `map` (none: privileged) has the host's user `uid` among its own, so that its root can do with
/// that user's files what the user can.
pub fn reaches(map: Option<&IdMap>, uid: u32) -> bool {
    map.is_none_or(|m| m.to_ns_uid(uid).is_some())
}

/// [`reaches`] for a container that is still to be made with `config`.
///
/// # Errors
/// As [`of`].
pub fn would_reach(config: &Config, uid: u32) -> Result<bool> {
    if keys::SECURITY_PRIVILEGED.bool(config)? {
        return Ok(true);
    }
    let host = subids::range()?;
    // The whole range: an isolated container's part of it is not known yet.
    let mut map = IdMap::simple(host.base, host.size)?;
    if let Some(raw) = keys::RAW_IDMAP.get(config) {
        map.entries.extend(IdMap::parse_raw(raw)?.entries);
    }
    Ok(reaches(Some(&map), uid))
}

/// Works the id map of an instance out anew and notes it in `volatile` for the next start. `config`: its expanded
/// configuration; `me`: the instance, whose own range counts as free.
///
/// An isolated container gets its range under the allocator's lock, which is returned: it is to be held until `volatile` is
/// saved, so that nobody else takes the same range.
///
/// # Errors
/// As [`of`] and [`isolated_base`].
pub fn assign(
    store: &Store,
    me: (&ProjectName, &InstanceName),
    config: &Config,
    volatile: &mut Config,
) -> Result<Option<Held<Allocator, Exclusive>>> {
    let isolated = keys::SECURITY_IDMAP_ISOLATED.bool(config)? && !keys::SECURITY_PRIVILEGED.bool(config)?;
    let lock = isolated.then(|| store.lock_allocator(Allocator::Ids)).transpose()?;
    let base = match isolated {
        true => Some(isolated_base(config, &mut taken(store, me)?)?),
        false => None,
    };
    let map = of(config, base)?;
    keys::VOLATILE_IDMAP_BASE.set(volatile, base.unwrap_or(0).to_string());
    keys::VOLATILE_IDMAP_NEXT.set(volatile, map.map_or_else(|| volatile_value::IDMAP_NONE.into(), |m| m.to_json()));
    Ok(lock)
}

/// The ranges (base, size) that isolated containers other than `me` will have or run with.
fn taken(store: &Store, me: (&ProjectName, &InstanceName)) -> Result<Vec<(u32, u32)>> {
    let shared = subids::range()?.base;
    let mut taken = Vec::new();
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            if (&project, &name) == me {
                continue;
            }
            let Ok(volatile) = store.volatile(&project, &name) else { continue };
            // One that runs keeps what it was started with, whatever comes next.
            for key in [&keys::VOLATILE_IDMAP_NEXT, &keys::VOLATILE_IDMAP_CURRENT] {
                let map = key.get(&volatile.config).and_then(|v| IdMap::from_json(v).ok()).unwrap_or_default();
                // Ids of the shared map are `shared + id`, also where raw.idmap has split it.
                let own = |e: &&Entry| e.host > shared && e.host.checked_sub(e.ns) != Some(shared);
                taken.extend(map.entries.iter().filter(own).map(|e| (e.host, e.range)));
            }
        }
    }
    Ok(taken)
}

/// The first host id for an isolated container, first fit above the shared part's beginning; `taken` are the ranges (base,
/// size) of the other isolated ones. Needs the allocator lock.
///
/// # Errors
/// [`crate::error::Kind::Failed`] if nothing is left.
pub fn isolated_base(config: &Config, taken: &mut [(u32, u32)]) -> Result<u32> {
    if let Some(fixed) = keys::SECURITY_IDMAP_BASE.u32(config)? {
        return Ok(fixed);
    }
    let size = keys::SECURITY_IDMAP_SIZE.u32(config)?.unwrap_or(ISOLATED_SIZE);
    let host = subids::range()?;
    first_fit(host.base.saturating_add(MINIMUM), host.base.saturating_add(host.size), size, taken)
        .ok_or_else(|| Error::failed("Not enough uid/gid available for an isolated container"))
}

fn first_fit(from: u32, end: u32, size: u32, taken: &mut [(u32, u32)]) -> Option<u32> {
    taken.sort_unstable();
    let mut at = from;
    for (base, len) in taken {
        if u64::from(at) + u64::from(size) <= u64::from(*base) {
            break;
        }
        at = at.max(base.checked_add(*len)?);
    }
    (u64::from(at) + u64::from(size) <= u64::from(end)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_map_can_reach_our_own_user() {
        let mut map = IdMap::simple(1_000_000, 65536).expect("map");
        assert!(!reaches(Some(&map), 0) && reaches(None, 0) && reaches(Some(&map), 1_065_535));
        assert!(!reaches(Some(&map), 1_065_536));
        map.insert_all(&IdMap::parse_raw("gid 0 0").expect("raw")).expect("insert");
        assert!(!reaches(Some(&map), 0), "a group is not the owner");
        map.insert_all(&IdMap::parse_raw("uid 0 0").expect("raw")).expect("insert");
        assert!(reaches(Some(&map), 0));
    }

    #[test]
    fn first_fit_fills_holes() {
        assert_eq!(first_fit(100, 1000, 50, &mut []), Some(100));
        assert_eq!(first_fit(100, 1000, 50, &mut [(200, 50), (100, 50)]), Some(150));
        assert_eq!(first_fit(100, 1000, 60, &mut [(100, 50), (200, 50)]), Some(250));
        assert_eq!(first_fit(100, 200, 60, &mut [(100, 50)]), None);
    }
}
