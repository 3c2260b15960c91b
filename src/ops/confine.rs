//! What confines an instance beyond namespaces: its AppArmor profile, loaded before it starts and removed after its end.
//! Where the kernel can stack them, a policy namespace goes with it, empty at each start: the instance's own AppArmor fills it.
//!
//! The compiled form is kept in the cache folder, so that AppArmor's program runs for the first start of an instance and
//! after a change only; a kept file counts if the hash of all it was made from and the hash of its content are right. Called
//! by `start`, `run`, `live`, `lifecycle` and `doctor`, under the instance's lock.

use super::load::{self, Loaded};
use crate::base::names::{InstanceName, ProjectName};
use crate::container::apparmor::{self as profile, Profile};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::{Host, Runner};
use crate::host::lsm::{self, AppArmor, apparmor};
use crate::model::instance::Config;
use crate::model::keys;
use crate::store::atomic::{self, Durability};
use crate::store::layout::Layout;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::{Action, Store};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Digits of a SHA-256.
const HASH: usize = 64;

/// Refuses what this host cannot confine as asked.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`]: `raw.apparmor` where no profile is loaded.
pub fn check(config: &Config) -> Result<()> {
    let key = &keys::RAW_APPARMOR;
    if key.get(config).is_none() || lsm::apparmor() == AppArmor::Managed {
        return Ok(());
    }
    Err(Error::unsupported(format!("Cannot apply \"{}\": AppArmor profiles can't be loaded on this host", key.name))
        .hint(format!("unset it: stapes config unset <instance> {}", key.name)))
}

/// Names the user's own rules beside what they may have denied.
pub fn explain(config: &Config, e: Error) -> Error {
    // The monitor's errors come as text.
    let denied = matches!(e.errno(), Some(libc::EACCES | libc::EPERM))
        || [libc::EACCES, libc::EPERM].iter().any(|n| e.to_string().ends_with(nix::errno::Errno::from_raw(*n).desc()));
    match remark(config) {
        Some(text) if denied && e.hint_text().is_none() => e.hint(text),
        _ => e,
    }
}

/// What may be said of anything that was denied; nothing if the user has no rules of their own.
pub fn remark(config: &Config) -> Option<String> {
    let key = &keys::RAW_APPARMOR;
    key.get(config).map(|_| format!("the rules of \"{}\" may deny it", key.name))
}

/// Name of the profile that the instance runs in; none where AppArmor is not ours to manage.
pub fn profile_name(layout: &Layout, project: &ProjectName, name: &InstanceName) -> Option<String> {
    (lsm::apparmor() == AppArmor::Managed)
        .then(|| profile::name(load::tag(layout).as_deref(), project.as_str(), name.as_str()))
}

/// The policy namespace that goes with a profile.
fn namespace(profile: &str) -> Option<String> {
    if apparmor::namespaces() { apparmor::namespace_of(profile) } else { None }
}

/// The AppArmor label that the instance runs with; none where AppArmor is not ours to manage.
pub fn label(layout: &Layout, project: &ProjectName, name: &InstanceName) -> Option<String> {
    let profile = profile_name(layout, project, name)?;
    Some(apparmor::label(&profile, namespace(&profile).as_deref()))
}

/// Loads the profile of an instance that is about to start.
///
/// # Errors
/// SELinux is enforcing; the profile cannot be compiled or loaded: it must not start then.
pub fn prepare(store: &Store, loaded: &Loaded) -> Result<()> {
    if lsm::selinux_enforces() {
        return Err(Error::unsupported("SELinux is enforcing, which this version cannot label instances for")
            .hint("set permissive mode: setenforce 0"));
    }
    reload(store, (&loaded.project, &loaded.name), &loaded.expanded.config)?;
    fault::point("confine.loaded")?;
    let profile = profile_name(store.layout(), &loaded.project, &loaded.name);
    profile.and_then(|p| namespace(&p)).map_or(Ok(()), |namespace| apparmor::make_namespace(&namespace))
}

/// Loads the profile that goes with the expanded configuration `config`, over the one there may be.
///
/// # Errors
/// It cannot be compiled or loaded.
pub fn reload(store: &Store, who: (&ProjectName, &InstanceName), config: &Config) -> Result<()> {
    let Some(name) = profile_name(store.layout(), who.0, who.1) else { return Ok(()) };
    let raw = keys::RAW_APPARMOR.get(config).unwrap_or_default();
    let profile = Profile {
        name: &name,
        privileged: keys::SECURITY_PRIVILEGED.bool(config)?,
        nesting: keys::SECURITY_NESTING.bool(config)?,
        namespace: namespace(&name).is_some(),
        raw,
        modern: false,
    };
    let done = load_profile(&Host::default(), &kept_at(store.layout(), &name), &profile);
    done.map_err(|e| if raw.is_empty() { e } else { e.hint(format!("see {}", keys::RAW_APPARMOR.name)) })
}

fn load_profile(runner: &dyn Runner, kept: &Path, profile: &Profile<'_>) -> Result<()> {
    // What the user's rules include may change without our knowing.
    let keep = !profile.raw.contains("include");
    let key = hash(&[apparmor::identity(runner)?.as_bytes(), &[0], profile::render(profile).as_bytes()]);
    // A kept profile that the kernel does not want is made anew.
    if keep && cached(kept, &key).is_some_and(|policy| apparmor::load(&policy).is_ok()) {
        return Ok(());
    }
    let modern = apparmor::modern(runner);
    let policy = apparmor::compile(runner, &profile::render(&Profile { modern, ..profile.clone() }))?;
    if keep {
        // Without it the next start takes longer.
        let _ = save(kept, &key, &policy);
    }
    apparmor::load(&policy)
}

/// Removes profile and namespace of an instance that has no process left. Nothing there is fine.
///
/// # Errors
/// The kernel refused.
pub fn unload(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    profile_name(store.layout(), project, name).map_or(Ok(()), |name| apparmor::remove_all_of(&name))
}

/// What a `run` has to undo.
pub fn undo(store: &Store, held: &Held<InstanceKey, Exclusive>, cgroup: &Path) -> Vec<Action> {
    let InstanceKey { project, name } = held.key();
    let Some(name) = profile_name(store.layout(), project, name) else { return Vec::new() };
    let path = kept_at(store.layout(), &name);
    vec![Action::RemoveFile { path }, Action::RemoveProfile { name, cgroup: cgroup.to_path_buf() }]
}

/// Forgets the compiled profile of an instance that is deleted; none where there is nothing to forget.
pub fn forget(layout: &Layout, project: &ProjectName, name: &InstanceName) -> Option<Action> {
    let path = kept_at(layout, &profile_name(layout, project, name)?);
    path.exists().then_some(Action::RemoveFile { path })
}

/// Instances of this state folder that a profile is loaded for, or a namespace made.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn confined(layout: &Layout) -> Result<Vec<(ProjectName, InstanceName)>> {
    if lsm::apparmor() != AppArmor::Managed {
        return Ok(Vec::new());
    }
    let tag = load::tag(layout);
    let of = |name: &String| {
        let (project, instance) = profile::whose(tag.as_deref(), name)?;
        Some((ProjectName::parse(&project).ok()?, InstanceName::parse(&instance).ok()?))
    };
    let prefix = profile::prefix(tag.as_deref());
    let names = apparmor::loaded(&prefix)?.into_iter().chain(apparmor::with_namespace(&prefix));
    Ok(names.filter_map(|name| of(&name)).collect())
}

/// Names of projects may be longer than those of files.
fn kept_at(layout: &Layout, name: &str) -> PathBuf {
    layout.apparmor_dir().join(&hash(&[name.as_bytes()])[..32])
}

fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().iter().fold(String::with_capacity(HASH), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The kept policy, if it was made from `key` and is whole: it may be torn by a power cut, and must be nobody else's.
fn cached(path: &Path, key: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let stat = file.metadata().ok()?;
    if !stat.is_file() || stat.uid() != rustix::process::geteuid().as_raw() || stat.mode() & 0o022 != 0 {
        return None;
    }
    let mut data = Vec::new();
    file.read_to_end(&mut data).ok()?;
    let (of, rest) = data.split_at_checked(HASH)?;
    let (content, policy) = rest.split_at_checked(HASH)?;
    (of == key.as_bytes() && content == hash(&[policy]).as_bytes()).then(|| policy.to_vec())
}

fn save(path: &Path, key: &str, policy: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("Failed creating \"{}\"", folder.display()))?;
    let data = [key.as_bytes(), hash(&[policy]).as_bytes(), policy].concat();
    atomic::replace(path, &data, 0o600, Durability::Fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_policy_counts_only_if_it_is_the_right_one_and_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("sub/x");
        let key = hash(&[b"made from this"]);
        assert_eq!(cached(&path, &key), None);
        save(&path, &key, b"policy").expect("save");
        assert_eq!(cached(&path, &key).as_deref(), Some(b"policy".as_slice()));
        assert_eq!(cached(&path, &hash(&[b"something else"])), None);
        let whole = std::fs::read(&path).expect("read");
        for bad in [whole[..whole.len() - 1].to_vec(), [&whole[..], b"x"].concat(), whole[..HASH].to_vec(), Vec::new()]
        {
            std::fs::write(&path, bad).expect("write");
            assert_eq!(cached(&path, &key), None);
        }
        std::fs::write(&path, &whole).expect("write");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("chmod");
        assert_eq!(cached(&path, &key), None, "anybody could have written it");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("symlink");
        assert_eq!(cached(&link, &key), None);
    }

    #[test]
    fn the_same_bytes_in_other_parts_have_the_same_hash() {
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"abc"]));
        assert_eq!(hash(&[b"abc"]).len(), HASH);
    }
}
