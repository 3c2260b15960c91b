//! Makes the controllers of cgroup v2 available to the groups of instances: turned on in `cgroup.subtree_control` of every
//! folder from the hierarchy's root down to the one that holds them.
//!
//! Called at every start and before a limit is changed live: one read when all is on already. A folder that is not ours to
//! change, or that holds processes (cgroup-v2.rst, "No Internal Process Constraint"), keeps a controller off: that is an
//! error only for who needs it ([`Available::require`]).

use super::scope;
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// What limits and measuring use.
const WANTED: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// Those of them that systemd does not know, and so neither delegates nor turns off (systemd.resource-control(5)).
const UNKNOWN_TO_SYSTEMD: [&str; 1] = ["hugetlb"];

/// What the groups in a folder have.
#[derive(Debug)]
pub struct Available {
    controllers: Vec<String>,
    refusal: Option<(String, std::io::Error)>,
}

impl Available {
    /// Refuses if groups do not have `controller`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Unsupported`], naming the folder that keeps it off.
    pub fn require(&self, controller: &str) -> Result<()> {
        if self.controllers.iter().any(|c| c == controller) {
            return Ok(());
        }
        let what = format!("Cannot apply the instance's limits: the cgroup2 controller \"{controller}\"");
        Err(match &self.refusal {
            Some((file, e)) => Error::unsupported(format!("{what} cannot be turned on in \"{file}\": {e}"))
                .hint("a process in that cgroup itself, or whoever manages it, keeps it off; or unset the limits"),
            None => Error::unsupported(format!("{what} is not available on this host"))
                .hint("boot with a pure cgroup v2 hierarchy (systemd.unified_cgroup_hierarchy=1), or unset the limits"),
        })
    }
}

/// Whether limits or measuring use this controller.
pub fn is_used(controller: &str) -> bool {
    WANTED.contains(&controller)
}

/// Turns on for groups in `parent`, which is made when missing, whatever of the controllers there is.
///
/// # Errors
/// `parent` cannot be made.
pub fn enable(parent: &Path) -> Result<Available> {
    let on = read(parent, "cgroup.subtree_control");
    if WANTED.iter().all(|w| on.iter().any(|c| c == w)) {
        return Ok(Available { controllers: on, refusal: None });
    }
    super::cgroup::Group::at(parent.to_path_buf()).make()?;
    let mut folders: Vec<&Path> = parent.ancestors().take_while(|d| d.join("cgroup.controllers").exists()).collect();
    folders.reverse();
    let mut refusal = None;
    let mut ours = !folders.first().is_some_and(|root| scope::is_systemds(root));
    for folder in folders {
        // Above a unit that was delegated to us, systemd turns on what it knows.
        ours |= is_unit(folder);
        if let Some(refused) = enable_in(folder, if ours { &WANTED } else { &UNKNOWN_TO_SYSTEMD }) {
            refusal = Some(refused);
        }
    }
    Ok(Available { controllers: read(parent, "cgroup.subtree_control"), refusal })
}

/// Only scopes and services are delegated.
fn is_unit(folder: &Path) -> bool {
    folder.extension().is_some_and(|e| e == "scope" || e == "service")
}

/// Turns on in one folder which of `wanted` it has and its groups have not; the last refusal.
fn enable_in(folder: &Path, wanted: &[&str]) -> Option<(String, std::io::Error)> {
    let (has, on) = (read(folder, "cgroup.controllers"), read(folder, "cgroup.subtree_control"));
    let missing = |w: &&&str| has.iter().any(|c| c == **w) && !on.iter().any(|c| c == **w);
    let missing: Vec<String> = wanted.iter().filter(missing).map(|c| format!("+{c}")).collect();
    if missing.is_empty() {
        return None;
    }
    let file = folder.join("cgroup.subtree_control");
    let write = |words: &str| {
        std::fs::OpenOptions::new().write(true).open(&file).and_then(|mut f| f.write_all(words.as_bytes()))
    };
    if write(&missing.join(" ")).is_ok() {
        return None;
    }
    // All or none: one that is refused would keep the others off.
    let one = |refused, word: &String| write(word).err().or(refused);
    missing.iter().fold(None, one).map(|e| (file.display().to_string(), e))
}

fn read(folder: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.split_whitespace().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let on = Available { controllers: vec!["pids".into()], refusal: None };
        assert!(on.require("pids").is_ok());
        assert!(on.require("memory").expect_err("off").to_string().contains("\"memory\" is not available"));
        let busy = std::io::Error::from_raw_os_error(libc::EBUSY);
        let refused = Available { refusal: Some(("/cg/cgroup.subtree_control".into(), busy)), ..on };
        let e = refused.require("memory").expect_err("refused");
        assert!(e.to_string().contains("cannot be turned on in \"/cg/cgroup.subtree_control\""), "{e}");
    }

    #[test]
    fn folders_of_a_hierarchy_are_gone_through_from_the_top() {
        let d = tempfile::tempdir().expect("tempdir");
        let (top, low) = (d.path().join("top"), d.path().join("top/low"));
        std::fs::create_dir_all(&low).expect("mkdir");
        for dir in [&top, &low] {
            std::fs::write(dir.join("cgroup.controllers"), "cpu pids rdma\n").expect("write");
            std::fs::write(dir.join("cgroup.subtree_control"), "").expect("write");
        }
        enable(&low).expect("enable");
        // A plain file keeps what is written.
        for dir in [&top, &low] {
            assert_eq!(std::fs::read_to_string(dir.join("cgroup.subtree_control")).expect("read"), "+cpu +pids");
        }
    }
}
