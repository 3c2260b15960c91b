//! The run-time table of running instances that ask for CPUs, one small file under `$RUN`: it is there only as long as one of
//! them runs, so all others pay nothing for it.
//!
//! Read and written by `ops::cpus`, written under [`Allocator::Cpu`]. On tmpfs and not synced. It is a hint like every other
//! file there: an entry counts as long as its cgroup exists, and a table that cannot be read is made anew.

use super::Store;
use super::atomic::Durability;
use super::layout::rel;
use super::lock::{Allocator, Exclusive, Held};
use super::record::{self, Record, records};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::cpus::CpuWish;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The table: instances in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuTable {
    /// Format of the record; set when written.
    #[serde(default)]
    pub format: u32,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<CpuEntry>,
}

/// An instance in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuEntry {
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its cgroup; absolute path.
    pub cgroup: PathBuf,
    /// The NUMA node that was chosen for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// What it asks for.
    pub wish: CpuWish,
}

impl CpuEntry {
    /// Whether this is the entry of that instance.
    pub fn is(&self, p: &ProjectName, n: &InstanceName) -> bool {
        self.project == p.as_str() && self.name == n.as_str()
    }
}

records! { CpuTable => "CPU table", }

impl Store {
    /// The table; `None` if nobody asks.
    ///
    /// # Errors
    /// It is damaged or cannot be read.
    pub fn cpu_table(&self) -> Result<Option<CpuTable>> {
        self.run.as_ref().map_or(Ok(None), |run| record::read(run, rel::CPUS))
    }

    /// Replaces the table; an empty one goes. `lock`: [`Allocator::Cpu`].
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_cpu_table(&self, lock: &Held<Allocator, Exclusive>, table: &CpuTable) -> Result<()> {
        if *lock.key() != Allocator::Cpu {
            return Err(Error::internal("The CPU table is written with another lock"));
        }
        let run = self.run_mut()?;
        match table.entries.is_empty() {
            true => run.unlink(rel::CPUS).map(drop).context("Failed removing the CPU table"),
            false => record::write(run, rel::CPUS, table, Durability::Fast),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::super::layout::Layout;
    use super::*;

    #[test]
    fn it_is_there_only_while_somebody_asks() {
        let d = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(d.path());
        let store = Store::open(&layout, Access::Write).expect("open");
        assert_eq!(store.cpu_table().expect("none"), None);
        let entry = CpuEntry {
            project: "default".into(),
            name: "c1".into(),
            cgroup: "/sys/fs/cgroup/stapes/default_c1".into(),
            node: Some(1),
            wish: CpuWish { cpus: "2".into(), nodes: String::new() },
        };
        assert!(entry.is(&ProjectName::default(), &InstanceName::parse("c1").expect("name")));
        let table = CpuTable { format: CpuTable::FORMAT, entries: vec![entry] };
        let lock = store.lock_allocator(Allocator::Cpu).expect("lock");
        store.save_cpu_table(&lock, &table).expect("save");
        assert_eq!(store.cpu_table().expect("read"), Some(table));
        store.save_cpu_table(&lock, &CpuTable::default()).expect("empty");
        store.save_cpu_table(&lock, &CpuTable::default()).expect("again");
        assert_eq!(store.cpu_table().expect("none"), None);
        drop(lock);
        let other = store.lock_allocator(Allocator::Mac).expect("lock");
        assert!(store.save_cpu_table(&other, &CpuTable::default()).is_err());
    }
}
