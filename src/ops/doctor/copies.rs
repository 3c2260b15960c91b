//! The copies of records in the pools (`ops::record_copy`): each belongs to a volume.

use super::Report;
use super::pools::waits;
use crate::error::Result;
use crate::ops::pool;
use crate::store::Store;

/// After the volumes: what goes with them is gone then.
pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    for (name, _) in store.pools()? {
        let Ok(Some(driver)) = pool::open(store, &name) else { continue };
        let mut stray = driver.stray_records()?;
        // Whoever renames or deletes one has a journal until its copy is in order, too.
        if !stray.is_empty() && store.operations()?.is_empty() {
            let now = driver.stray_records()?;
            stray.retain(|volume| now.contains(volume));
        } else {
            stray.clear();
        }
        let (label, message) = (format!("pool {name}"), format!("{} copies of records have no volume", stray.len()));
        if stray.is_empty() || waits(store, &name, report, (&label, &message)) {
            continue;
        }
        report.disagreement(&label, message, fix, || stray.iter().try_for_each(|volume| driver.drop_record(volume)));
    }
    Ok(())
}
