//! Reads the specification of a plan: what [`super::build`] puts in. The rest of the format, which the library's own reader
//! knows too, costs the binary a matcher of regular expressions.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Linux, LinuxCapabilities, PosixRlimit, Process, ProcessBuilder, Root, Spec, SpecBuilder, User,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parts {
    oci_version: String,
    root: Root,
    process: ProcessParts,
    hostname: String,
    linux: Linux,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProcessParts {
    terminal: bool,
    user: User,
    args: Vec<String>,
    env: Vec<String>,
    cwd: PathBuf,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Vec<PosixRlimit>,
    no_new_privileges: bool,
    apparmor_profile: Option<String>,
    oom_score_adj: i32,
}

/// For serde's `deserialize_with`.
///
/// # Errors
/// Something is missing, or is there that no plan of ours has.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spec, D::Error> {
    Parts::deserialize(deserializer).and_then(|parts| spec(parts).map_err(D::Error::custom))
}

fn spec(parts: Parts) -> Result<Spec, OciSpecError> {
    let mut spec = SpecBuilder::default()
        .version(parts.oci_version)
        .root(parts.root)
        .process(process(parts.process)?)
        .hostname(parts.hostname)
        .linux(parts.linux)
        .build()?;
    spec.set_mounts(None).set_annotations(parts.annotations);
    Ok(spec)
}

fn process(parts: ProcessParts) -> Result<Process, OciSpecError> {
    let mut process = ProcessBuilder::default()
        .terminal(parts.terminal)
        .user(parts.user)
        .args(parts.args)
        .env(parts.env)
        .cwd(parts.cwd)
        .rlimits(parts.rlimits)
        .no_new_privileges(parts.no_new_privileges)
        .oom_score_adj(parts.oom_score_adj)
        .build()?;
    process.set_capabilities(parts.capabilities).set_apparmor_profile(parts.apparmor_profile);
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::super::build::{self, Settings};
    use super::*;
    use crate::base::idmap::IdMap;

    #[test]
    fn what_is_built_is_read_again() {
        let whole = Settings {
            hostname: "web".into(),
            args: vec!["/sbin/init".into(), "x y".into()],
            env: vec!["A=b".into()],
            cwd: "/root".into(),
            groups: vec![4, 5],
            terminal: true,
            idmap: Some(IdMap::simple(1_000_000, 65536).expect("valid")),
            rlimits: vec![("nofile".into(), 10, 20)],
            sysctls: [("net.ipv4.ip_forward".to_string(), "1".to_string())].into(),
            oom_score: -7,
            apparmor: Some("profile".into()),
            readonly: true,
            ..Settings::default()
        };
        for settings in [whole, Settings::default()] {
            let spec = build::spec(&settings).expect("builds");
            let text = serde_json::to_string(&spec).expect("is written");
            let mut reader = serde_json::Deserializer::from_str(&text);
            assert_eq!(deserialize(&mut reader).expect("is read"), spec);
        }
        let mut reader = serde_json::Deserializer::from_str("{\"ociVersion\": \"1.2.0\"}");
        assert!(deserialize(&mut reader).is_err());
    }
}
