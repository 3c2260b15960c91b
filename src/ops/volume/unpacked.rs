//! `storage volume delete` of what a pool has of an image: it is unpacked again when it is needed. The image itself stays.

use super::{need_pool, not_found};
use crate::base::names::{Fingerprint, PoolName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::ops::pool;
use crate::store::events::{self, Event};
use crate::store::{Action, Journal, Store};

/// Removes the image called `name`, its whole fingerprint, from a pool; once begun it is done, by us or by recovery.
///
/// # Errors
/// Not found; Conflict: volumes made from it need it.
pub fn delete(store: &Store, pool: &PoolName, name: &str) -> Result<()> {
    let _pool = store.lock_pool_shared(pool)?;
    need_pool(store, pool)?;
    let image = Fingerprint::parse(name).map_err(|_| not_found())?;
    let lock = store.lock_image(&image, "delete")?;
    let driver = pool::need(store, pool)?;
    if !driver.has_image(&image)? {
        return Err(not_found());
    }
    let users = driver.image_users(&image)?;
    if !users.is_empty() {
        let users: Vec<String> = users.iter().map(|v| format!("{}/{}", v.kind().folder(), v.name())).collect();
        return Err(Error::conflict("The storage volume is still in use")
            .hint(format!("volumes made from the image need it: {}", users.join(", "))));
    }
    fault::point("image.evict.begin")?;
    let action = Action::EvictImage { pool: pool.to_string(), image: image.to_string() };
    Journal::forward(store, "delete", &[&lock], vec![action])?.finish()?;
    let source = format!("/1.0/storage-pools/{pool}/volumes/image/{image}");
    let project = ProjectName::default();
    let event = Event::lifecycle("storage-volume-deleted", &source, project.as_str(), serde_json::Value::Null);
    let _ = events::append(store, &event);
    Ok(())
}
