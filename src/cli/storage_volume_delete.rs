//! `storage volume delete`: a custom volume with its snapshots, or what a pool has of an image.

use super::storage_volume::{Named, Place, Word, pool};
use super::{Context, DONE, Outcome, refuse_target};
use crate::error::Error;
use crate::ops::volume::list::Type;
use crate::ops::volume::{self as ops, change, unpacked};
use clap::Args;

/// Delete custom storage volumes
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    pub place: Place,
    /// Forget the volume even if its storage pool is not available
    #[arg(short, long)]
    pub force: bool,
}

impl Delete {
    /// Deletes.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let (place, store) = (&self.place, cx.store()?);
        let Word { kind, name, snapshot } = Word::parse(&place.volume);
        match kind {
            Type::Custom => {
                let named = Named::of_place(cx, &store, place, "deleted")?;
                if !self.force {
                    change::delete(&store, named.get())?;
                } else if !change::forget(&store, named.get())? {
                    let (name, pool) = (&named.name, &named.pool);
                    cx.warn(format!(
                        "What storage volume \"{name}\" holds stays in storage pool \"{pool}\", which is not available"
                    ));
                }
            }
            Type::Image => {
                refuse_target(place.target.as_deref())?;
                if snapshot.is_some() {
                    return Err(ops::not_found().into());
                }
                unpacked::delete(&store, &pool(&place.pool)?, &name)?;
            }
            _ => {
                let text =
                    format!("Storage volumes of type {:?} cannot be deleted with the storage API", kind.as_str());
                return Err(Error::invalid(text).hint("they go with their instances").into());
            }
        }
        cx.notice(format_args!("Storage volume {name} deleted"))?;
        Ok(DONE)
    }
}
