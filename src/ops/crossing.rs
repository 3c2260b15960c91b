//! Volumes on their way to another pool: as streams if both pools are of a driver that has them, so that what they share stays
//! shared, else file by file. Within a pool its driver knows best.
//!
//! Used by the verbs that copy, move and refresh instances and custom volumes, of which one at a time makes the snapshots, oldest
//! first, and then the volume. What is sent is a copy made for that, which cannot be written and goes with the journal: what runs
//! is held still no longer than it takes to make it. A snapshot that was sent tells what it was sent from, so that a refresh can
//! build upon it. What a stream has no form for is copied file by file.

use super::transfer;
use crate::base::names::SnapshotName;
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::storage::streams::{Receiver, Streams};
use crate::storage::{Driver, Volume, block};
use crate::store::undo::Volume as Named;
use crate::store::{Action, Journal};
use std::io::Read;

/// Bytes read of a stream at a time.
const STEP: usize = 256 << 10;

/// Copies file by file to where the target's driver puts a volume together.
pub(super) type Files<'a> = &'a dyn Fn(&Volume, &Volume) -> Result<()>;

/// Does something while nothing changes the source.
pub(super) type Still<'a> = &'a mut dyn FnMut(&mut Journal<'_>, &mut dyn FnMut() -> Result<()>) -> Result<()>;

/// For a source that is at rest.
///
/// # Errors
/// As `body`.
pub(super) fn at_rest(_: &mut Journal<'_>, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    body()
}

/// From where to where.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// Driver of the source's pool.
    pub from: &'a dyn Driver,
    /// Driver of the target's pool.
    pub to: &'a dyn Driver,
    /// They are the same pool.
    pub within: bool,
    /// The source, which snapshots are of.
    pub volume: &'a Volume,
    /// What a journal calls a snapshot of it.
    pub named: &'a dyn Fn(&SnapshotName) -> Named,
    /// How it is done without streams.
    pub files: Files<'a>,
    /// It holds a disk.
    pub is_disk: bool,
}

/// See the module.
pub(super) struct Crossing<'a> {
    way: Way<'a>,
    streams: Option<Sender<'a>>,
}

struct Sender<'a> {
    from: &'a dyn Streams,
    to: &'a dyn Streams,
    receiver: Box<dyn Receiver + 'a>,
    /// What was sent, sealed, the last one last.
    parents: Vec<Volume>,
}

impl<'a> Crossing<'a> {
    /// One for a source and its snapshots.
    pub fn new(way: Way<'a>) -> Self {
        let streams = match (way.from.streams(), way.to.streams()) {
            (Some(from), Some(to)) if !way.within && way.from.name() == way.to.name() => {
                Some(Sender { from, to, receiver: to.receiver(None), parents: Vec::new() })
            }
            _ => None,
        };
        Self { way, streams }
    }

    /// Of pairs of snapshots of the source and of the target that are the same, the last ones first, has streams build upon the
    /// first one that was sent here.
    ///
    /// # Errors
    /// No room.
    pub fn build_upon(&mut self, journal: &mut Journal<'_>, common: &[(Volume, Volume)]) -> Result<()> {
        let Some(sender) = &self.streams else { return Ok(()) };
        let sent = |(old, new): &&(Volume, Volume)| {
            let (old, new) = (sender.from.ids(old).ok(), sender.to.ids(new).ok());
            // Either may be what the other one was received from.
            old.zip(new).is_some_and(|(old, new)| new.received == Some(old.own) || old.received == Some(new.own))
        };
        let Some((old, new)) = common.iter().find(sent) else { return Ok(()) };
        let Some(copy) = self.note(journal)? else { return Ok(()) };
        self.way.from.copy(old, &copy)?;
        if let Some(sender) = &mut self.streams {
            match sender.from.seal(&copy) {
                Ok(id) => {
                    sender.receiver.build_upon(new, &id)?;
                    sender.parents.push(copy);
                }
                Err(e) if no_form(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes `to` a copy of `from`, which `still` holds as it is. Locks: the instances or volumes of both.
    ///
    /// # Errors
    /// NotFound: `from`; Exists: `to`; no space; those of `still`.
    pub fn copy(&mut self, journal: &mut Journal<'_>, (from, to): (&Volume, &Volume), still: Still<'_>) -> Result<()> {
        let way = self.way;
        if way.within {
            return still(journal, &mut || way.from.copy(from, to));
        }
        if way.to.exists(to)? {
            return Err(Error::exists(format!("Volume \"{}\" already exists", to.name())));
        }
        self.stage(journal, (from, to), still)?;
        way.to.commit_volume(to)
    }

    /// Puts a copy of `from` where the driver puts `to`, which may be there, together.
    ///
    /// # Errors
    /// As [`Crossing::copy`].
    pub fn stage(&mut self, journal: &mut Journal<'_>, (from, to): (&Volume, &Volume), still: Still<'_>) -> Result<()> {
        let way = self.way;
        if way.within {
            return still(journal, &mut || way.from.begin_restore(from, to));
        }
        let copy = if self.streams.is_some() { self.note(journal)? } else { None };
        let (Some(copy), Some(sender)) = (copy, &mut self.streams) else {
            return still(journal, &mut || (way.files)(from, to));
        };
        match still(journal, &mut || way.from.copy(from, &copy)) {
            // A name that the pool has no room for.
            Err(e) if e.kind() == Kind::Invalid => return still(journal, &mut || (way.files)(from, to)),
            other => other?,
        }
        fault::point("transfer.taken")?;
        match sender.send(way, from, (&copy, to)) {
            Ok(()) => {
                sender.parents.push(copy);
                Ok(())
            }
            Err(e) if no_form(&e) => (way.files)(&copy, to),
            Err(e) => Err(e),
        }
    }

    /// The name of a copy that goes when the journal ends; none: it would be too long.
    fn note(&self, journal: &mut Journal<'_>) -> Result<Option<Volume>> {
        // No snapshot has such a name: it would be one of the user's.
        let name = SnapshotName::parse(&format!("copy:{}", uuid::Uuid::new_v4().simple()))?;
        let Ok(copy) = self.way.volume.snapshot(&name) else { return Ok(None) };
        let named = (self.way.named)(&name);
        journal.undo(Action::RemoveVolume(named.clone()))?;
        journal.then(Action::RemoveVolume(named))?;
        Ok(Some(copy))
    }
}

impl Sender<'_> {
    /// Sends `copy`, made of `from`, to where `to` is put together.
    fn send(&mut self, way: Way<'_>, from: &Volume, (copy, to): (&Volume, &Volume)) -> Result<()> {
        self.from.seal(copy)?;
        let folder = self.receiver.begin(to)?;
        if way.is_disk {
            block::prepare(way.to, &folder)?;
        }
        fault::point("transfer.begun")?;
        let receiver = self.receiver.as_mut();
        let parents: Vec<&Volume> = self.parents.iter().collect();
        self.from.send(copy, &parents, &mut |stream: &mut dyn Read| {
            let mut buffer = vec![0; STEP];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => receiver.feed(&buffer[..n])?,
                }
            }
        })?;
        receiver.finish()?;
        if from.snapshot_of().is_some() && to.snapshot_of().is_some() {
            receiver.identify(to, Some(&self.from.ids(from)?.own))?;
        }
        fault::point("transfer.copied")?;
        transfer::sync_at(&folder)
    }
}

/// It cannot be told by a stream, or we may not read or write one: it can be copied.
fn no_form(e: &Error) -> bool {
    let refused = [libc::EPERM, libc::EINVAL, libc::EOPNOTSUPP, libc::ENAMETOOLONG, libc::ENOTTY, libc::EXDEV];
    matches!(e.kind(), Kind::Unsupported | Kind::Invalid) || e.errno().is_some_and(|errno| refused.contains(&errno))
}
