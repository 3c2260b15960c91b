//! The state an instance is in, asked of the kernel each time: run file, monitor, cgroup.
//!
//! Used by everything that shows instances. Takes no lock; what it says may have changed when it returns.

use crate::base::names::{InstanceName, ProjectName};
use crate::error::Result;
use crate::host::cgroup::Group;
use crate::model::status::Status;
use crate::store::Store;
use crate::store::runfile::{Liveness, RunFile};

/// A status, and the run file if something runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The status.
    pub status: Status,
    /// What runs.
    pub run: Option<RunFile>,
}

impl Found {
    /// Nothing runs.
    pub fn stopped() -> Self {
        Self { status: Status::Stopped, run: None }
    }

    /// It cannot be told.
    pub fn error() -> Self {
        Self { status: Status::Error, run: None }
    }
}

/// The status of an instance that exists.
///
/// # Errors
/// The run file is damaged.
pub fn of(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Found> {
    let Some(running) = store.running(project, name)? else {
        // Between its start and its readiness a monitor lives and has written nothing yet.
        let starting = store.has_monitor(project, name)?;
        return Ok(Found { status: if starting { Status::Starting } else { Status::Stopped }, run: None });
    };
    let file = running.file;
    Ok(match running.liveness {
        Liveness::Dead => Found::stopped(),
        // Without its monitor nobody records its end; the next command that changes it clears it away.
        Liveness::Orphaned => Found { status: Status::Error, run: Some(file) },
        Liveness::Running => {
            let frozen = Group::at(file.cgroup.clone()).frozen();
            Found { status: if frozen { Status::Frozen } else { Status::Running }, run: Some(file) }
        }
    })
}
