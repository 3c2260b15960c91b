//! Makes the runtime specification of a container from typed settings. Pure: the settings come from configuration (`ops`
//! reads the keys), the specification goes into the plan.

use super::resources::{self, Limits};
use super::seccomp::{self, Policy};
use crate::base::idmap::{IdMap, Kind};
use crate::error::{Error, Result};
use crate::host::lsm::apparmor;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

/// What configuration says about a container, typed.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Host name.
    pub hostname: String,
    /// Program of process 1, or of the command.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// Its folder.
    pub cwd: PathBuf,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// It runs on a terminal.
    pub terminal: bool,
    /// Ids; none for a privileged container.
    pub idmap: Option<IdMap>,
    /// Resource limits: name in lower case, soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// Sysctls by name.
    pub sysctls: BTreeMap<String, String>,
    /// Adjustment of the OOM killer's score.
    pub oom_score: i32,
    /// System call policy.
    pub seccomp: Policy,
    /// The root is read-only.
    pub readonly: bool,
    /// Paths below /proc that a privileged container may only read.
    pub readonly_paths: Vec<String>,
    /// Folder of the cgroup.
    pub cgroup: PathBuf,
    /// Limits of the cgroup.
    pub limits: Limits,
    /// The AppArmor label it runs with.
    pub apparmor: Option<String>,
}

/// What Incus takes from a privileged container.
const PRIVILEGED_DROP: [Capability; 3] = [Capability::SysTime, Capability::SysModule, Capability::SysRawio];
/// And these, unless it has a policy namespace of its own.
const POLICY_DROP: [Capability; 2] = [Capability::MacAdmin, Capability::MacOverride];

fn is_dropped(cap: Capability, label: Option<&str>) -> bool {
    let own_policy = label.is_some_and(apparmor::has_namespace);
    PRIVILEGED_DROP.contains(&cap) || !own_policy && POLICY_DROP.contains(&cap)
}

fn internal(e: OciSpecError) -> Error {
    Error::internal("Failed building the plan").caused_by(e)
}

/// The specification.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for a bad limit name or system call.
pub fn spec(s: &Settings) -> Result<Spec> {
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(s.idmap.is_some())?)
        .sysctl(s.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<HashMap<_, _>>())
        .cgroups_path(s.cgroup.clone());
    if let Some(map) = &s.idmap {
        linux = linux.uid_mappings(mappings(map, Kind::Uid)?).gid_mappings(mappings(map, Kind::Gid)?);
    }
    if let Some(policy) = seccomp::to_spec(&s.seccomp)? {
        linux = linux.seccomp(policy);
    }
    let mut linux = linux.build().map_err(internal)?;
    linux.set_resources(resources::to_spec(&s.limits)?);
    // The builder fills in Docker's lists; Incus masks nothing here.
    linux.set_masked_paths(None).set_readonly_paths(Some(s.readonly_paths.clone()));
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .process(process(s)?)
        .root(RootBuilder::default().path("rootfs").readonly(s.readonly).build().map_err(internal)?)
        .hostname(s.hostname.clone())
        .linux(linux)
        .build()
        .map_err(internal)?;
    spec.set_mounts(None);
    Ok(spec)
}

fn process(s: &Settings) -> Result<Process> {
    let user =
        UserBuilder::default().uid(s.uid).gid(s.gid).additional_gids(s.groups.clone()).build().map_err(internal)?;
    let mut process = ProcessBuilder::default()
        .terminal(s.terminal)
        .user(user)
        .args(s.args.clone())
        .env(s.env.clone())
        .cwd(s.cwd.clone())
        .no_new_privileges(false)
        .oom_score_adj(s.oom_score)
        .rlimits(rlimits(&s.rlimits)?)
        .build()
        .map_err(internal)?;
    process.set_apparmor_profile(s.apparmor.clone());
    process.set_capabilities(if s.idmap.is_some() { None } else { Some(privileged_capabilities(s)?) });
    Ok(process)
}

fn privileged_capabilities(s: &Settings) -> Result<oci_spec::runtime::LinuxCapabilities> {
    let kept: HashSet<Capability> = caps::all()
        .into_iter()
        .filter_map(|c| by_name(&c.to_string()))
        .filter(|c| !is_dropped(*c, s.apparmor.as_deref()))
        .collect();
    LinuxCapabilitiesBuilder::default()
        .bounding(kept.clone())
        .effective(kept.clone())
        .permitted(kept)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .map_err(internal)
}

/// The same as a mask, for a process that enters with the AppArmor label `label`.
pub fn privileged_drop(label: Option<&str>) -> u64 {
    let goes = |c: &caps::Capability| by_name(&c.to_string()).is_some_and(|c| is_dropped(c, label));
    caps::all().iter().filter(|c| goes(c)).map(caps::Capability::bitmask).sum()
}

fn by_name(name: &str) -> Option<Capability> {
    serde_json::from_value(serde_json::Value::String(name.to_string())).ok()
}

fn rlimits(limits: &[(String, u64, u64)]) -> Result<Vec<PosixRlimit>> {
    limits
        .iter()
        .map(|(name, soft, hard)| {
            super::limits::resource(name)?;
            let full = serde_json::Value::String(format!("RLIMIT_{}", name.to_ascii_uppercase()));
            let typ: PosixRlimitType = serde_json::from_value(full)
                .map_err(|e| Error::invalid(format!("Unknown resource limit \"{name}\"")).caused_by(e))?;
            PosixRlimitBuilder::default().typ(typ).soft(*soft).hard(*hard).build().map_err(internal)
        })
        .collect()
}

fn namespaces(user: bool) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as N;
    let mut all = vec![N::Mount, N::Pid, N::Uts, N::Ipc, N::Network, N::Cgroup];
    if user {
        all.push(N::User);
    }
    all.into_iter().map(|t| LinuxNamespaceBuilder::default().typ(t).build().map_err(internal)).collect()
}

fn mappings(map: &IdMap, kind: Kind) -> Result<Vec<LinuxIdMapping>> {
    map.entries
        .iter()
        .filter(|e| e.kind == kind)
        .map(|e| {
            LinuxIdMappingBuilder::default().container_id(e.ns).host_id(e.host).size(e.range).build().map_err(internal)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprivileged_maps_ids_and_keeps_capabilities() {
        let settings = Settings {
            hostname: "web".into(),
            args: vec!["/sbin/init".into()],
            cwd: "/".into(),
            idmap: Some(IdMap::simple(1_000_000, 65536).expect("valid")),
            rlimits: vec![("nofile".into(), 10, 20)],
            ..Settings::default()
        };
        let spec = spec(&settings).expect("builds");
        let linux = spec.linux().as_ref().expect("is there");
        assert_eq!(linux.uid_mappings().as_ref().map(Vec::len), Some(1));
        assert!(linux.masked_paths().is_none());
        let process = spec.process().as_ref().expect("is there");
        assert!(process.capabilities().is_none());
        assert_eq!(process.rlimits().as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn privileged_loses_the_time_and_the_modules() {
        let spec = spec(&Settings::default()).expect("builds");
        let caps = spec.process().as_ref().and_then(|p| p.capabilities().clone()).expect("are there");
        let bounding = caps.bounding().clone().expect("is there");
        assert!(bounding.contains(&Capability::Chown) && bounding.contains(&Capability::SysAdmin));
        assert!(PRIVILEGED_DROP.iter().chain(&POLICY_DROP).all(|c| !bounding.contains(c)));
    }

    #[test]
    fn whoever_has_a_policy_namespace_may_fill_it() {
        let label = "stapes-default_c1//&:lxc-stapes-default_c1:";
        let spec = spec(&Settings { apparmor: Some(label.into()), ..Settings::default() }).expect("builds");
        let caps = spec.process().as_ref().and_then(|p| p.capabilities().clone()).expect("are there");
        let bounding = caps.bounding().clone().expect("is there");
        assert!(bounding.contains(&Capability::MacAdmin) && !bounding.contains(&Capability::SysModule));
        let mask = caps::Capability::CAP_MAC_ADMIN.bitmask();
        assert_eq!((privileged_drop(Some(label)) & mask, privileged_drop(Some("x")) & mask), (0, mask));
    }
}
