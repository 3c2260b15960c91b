//! What is left in the kernel when nothing runs any more: the groups that instances and monitors were in.
//!
//! Called at the end of the commands after which nothing may run: `delete`, `stop`, `run`, `admin shutdown`. The monitor that
//! ended last could not remove the group it was in. On a systemd host they went with the scope.

use super::load;
use crate::error::Result;
use crate::store::Alone;
use crate::store::layout::Layout;

/// Removes our empty cgroups if no other command runs that may be about to use them: that one, or the next, does it then.
///
/// # Errors
/// The state folder or the cgroup tree cannot be read.
pub fn cgroups(layout: &Layout) -> Result<()> {
    let ours = load::cgroups(layout)?;
    match Alone::now(layout)? {
        Some(_alone) => ours.leave(),
        None => Ok(()),
    }
}
