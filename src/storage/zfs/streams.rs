//! Volumes as streams of ZFS: `zfs send` and `zfs receive`, with a pipe each.
//!
//! A stream is of a snapshot of ZFS's that holds what the volume holds (`timeline`). What is received is a dataset of its own with
//! the snapshot it came with, or, if the stream builds upon another one, a clone of what that one came with. That snapshot stays
//! with a snapshot of a volume, which does not change: later streams build upon it. A volume itself loses it.
//!
//! What strangers made is put into the kernel, as with Incus: ZFS has no other way. But it is only files (`head`): properties are
//! those that we give, and what is in it is looked through before it is shown.

use super::head::{self, Head};
use super::timeline::{COLUMNS, FROM, Point, Timeline};
use super::tool::{self, Receiving};
use super::volumes::Place;
use super::{Root, Zfs, names};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::storage::streams::{Ids, Reading, Receiver, Streams};
use crate::storage::tree;
use crate::storage::volume::{Volume, VolumeKind};
use rustix::fd::AsFd;
use std::path::PathBuf;

/// What can be sent.
const SENT: &str = "filesystem,snapshot";
/// What a stream cannot change afterwards in how names are looked up, and how it is to be.
const LOOKUP: (&str, [&str; 3]) = ("casesensitivity,normalization,utf8only", ["sensitive", "none", "off"]);

impl Root {
    /// Of all datasets of these kinds of the storage pool.
    pub(super) fn timeline(&self, kinds: &str) -> Result<Timeline> {
        let words = ["list", "-Hp", "-r", "-t", kinds, "-o", COLUMNS, &self.name];
        Ok(Timeline::parse(&tool::zfs(&words)?))
    }

    /// What holds what a volume holds that is a snapshot, or a copy made to be sent.
    fn content<'a>(&self, all: &'a Timeline, volume: &Volume) -> Option<&'a Point> {
        let kinds = [VolumeKind::ContainerSnapshot, VolumeKind::CustomSnapshot];
        let folders = kinds.map(|kind| format!("{}/", self.at(kind.folder())));
        let is_one = |set: &str| folders.iter().any(|folder| set.starts_with(folder));
        let set = self.at(&names::volume(volume));
        all.content(&set, is_one).filter(|_| is_one(&set))
    }
}

impl Streams for Zfs {
    fn seal(&self, volume: &Volume) -> Result<String> {
        if !self.fits(volume)? {
            return Err(Error::unsupported("Volumes in block mode, or with shifted owners, have no form as streams"));
        }
        // Who mounted it may have changed it.
        if self.pool.is_mount(&Place::of(volume).rel)? {
            let (at, name) = (self.root.at(&names::volume(volume)), names::fresh("sent"));
            tool::zfs(&["snapshot", &format!("{at}{name}")])?;
            tool::zfs(&["set", &format!("{FROM}={name}"), &at])?;
        }
        Ok(self.ids(volume)?.own)
    }

    fn send(&self, volume: &Volume, parents: &[&Volume], body: Reading<'_>) -> Result<()> {
        let fail = || format!("Failed sending volume \"{}\"", volume.name());
        let all = self.root.timeline(SENT)?;
        let what = self.root.content(&all, volume);
        let what = what.ok_or_else(|| Error::unsupported("It is no copy of a volume")).with_context(fail)?;
        let before = parents.iter().filter_map(|parent| self.root.content(&all, parent));
        let base = before.filter(|base| all.is_before(base, what)).max_by_key(|base| base.when);
        let mut words = base.map_or_else(Vec::new, |base| vec!["-i".to_string(), base.full()]);
        words.push(what.full());
        tool::send(&words, body).with_context(fail)
    }

    fn ids(&self, volume: &Volume) -> Result<Ids> {
        self.present(volume)?;
        let all = self.root.timeline(SENT)?;
        let guid = self.root.content(&all, volume).map(|point| point.guid.to_string());
        Ok(Ids { own: guid.clone().unwrap_or_default(), received: guid })
    }

    fn receiver(&self, most: Option<u64>) -> Box<dyn Receiver + '_> {
        Box::new(Receive { driver: self, left: most, done: Vec::new(), now: None })
    }

    fn fits(&self, volume: &Volume) -> Result<bool> {
        let shifted = || Ok::<_, Error>(volume.kind().is_custom() && !self.said_owners(volume)?.is_empty());
        Ok(!self.is_block(volume)? && !shifted()?)
    }

    fn has_header(&self) -> bool {
        false
    }
}

/// A volume that was received, shown since or not, or that was there before.
#[derive(Debug)]
struct Done {
    volume: Volume,
    guid: u64,
    /// Name of the snapshot it came with; None: it was there.
    mark: Option<String>,
    /// It holds what that does: nothing had to go.
    same: bool,
}

/// One that is being received.
#[derive(Debug)]
struct Now {
    volume: Volume,
    head: Vec<u8>,
    /// Once the stream has said what it is of.
    running: Option<(Receiving, Done)>,
}

#[derive(Debug)]
struct Receive<'a> {
    driver: &'a Zfs,
    /// How many files and folders may still be there; None: the streams are no stranger's.
    left: Option<u64>,
    done: Vec<Done>,
    now: Option<Now>,
}

impl Receive<'_> {
    /// The snapshot that streams call `guid`.
    fn base(&self, guid: u64) -> Result<String> {
        let root = &self.driver.root;
        let missing = || Error::invalid("The stream builds upon a volume that is not in the backup before it");
        let done = self.done.iter().rev().find(|done| done.guid == guid).ok_or_else(missing)?;
        let Some(mark) = &done.mark else {
            let all = root.timeline(SENT)?;
            return root.content(&all, &done.volume).map(Point::full).ok_or_else(missing);
        };
        let staged = names::staged(&done.volume);
        let set = if self.driver.has(&staged)? { staged } else { names::volume(&done.volume) };
        Ok(format!("{}{mark}", root.at(&set)))
    }

    fn start(&self, volume: &Volume, head: &[u8]) -> Result<(Receiving, Done)> {
        let Head { to, from } = Head::parse(head)?;
        let mark = names::fresh("recv");
        let target = format!("{}{mark}", self.driver.root.at(&names::staged(volume)));
        let origin = from.map(|guid| self.base(guid)).transpose()?.map(|base| format!("origin={base}"));
        let mut words = vec!["-u"];
        words.extend(origin.iter().flat_map(|origin| ["-o", origin]));
        words.push(&target);
        let mut receiving = Receiving::start(&words)?;
        fault::point("storage.stream.begun")?;
        receiving.feed(head)?;
        Ok((receiving, Done { volume: volume.clone(), guid: to, mark: Some(mark), same: true }))
    }

    /// Sees that what was received is what it seems to be, and gives it the properties of the volume.
    fn settle(&mut self, done: &mut Done) -> Result<()> {
        let (driver, place) = (self.driver, Place::staged(&done.volume));
        let at = driver.root.at(&place.set);
        let own = tool::zfs(&["get", "-H", "-s", "local,received", "-o", "property", "all", &at])?;
        let lookup = tool::get(LOOKUP.0, &at)?.unwrap_or_default();
        if !own.is_empty() || lookup != LOOKUP.1 {
            return Err(Error::invalid("The stream makes a file system with properties of its own"));
        }
        let own = driver.properties(&done.volume)?;
        if !own.is_empty() {
            let mut words = vec!["set"];
            words.extend(own.iter().map(String::as_str));
            words.push(&at);
            tool::zfs(&words)?;
        }
        if done.volume.snapshot_of().is_none() {
            let mark = done.mark.as_deref().unwrap_or_default();
            tool::zfs(&["destroy", "-d", &format!("{at}{mark}")])?;
        }
        driver.show(&place)?;
        if let Some(left) = &mut self.left {
            done.same = tree::sift(driver.pool.open_dir(&place.rel)?.as_fd(), left)?;
        }
        Ok(())
    }
}

impl Receiver for Receive<'_> {
    fn begin(&mut self, volume: &Volume) -> Result<PathBuf> {
        let staged = Place::staged(volume);
        self.driver.clear(&staged)?;
        self.now = Some(Now { volume: volume.clone(), head: Vec::new(), running: None });
        Ok(self.driver.pool.path(&staged.rel))
    }

    fn feed(&mut self, piece: &[u8]) -> Result<()> {
        let mut now = self.now.take().ok_or_else(|| Error::internal("No stream was begun"))?;
        let fail = || format!("Failed receiving volume \"{}\"", now.volume.name());
        let (begin, rest) = piece.split_at(piece.len().min(head::LENGTH - now.head.len()));
        now.head.extend_from_slice(begin);
        if now.running.is_none() && now.head.len() == head::LENGTH {
            now.running = Some(self.start(&now.volume, &now.head).with_context(fail)?);
        }
        if let Some((receiving, _)) = now.running.as_mut().filter(|_| !rest.is_empty()) {
            receiving.feed(rest).with_context(|| format!("Failed receiving volume \"{}\"", now.volume.name()))?;
        }
        self.now = Some(now);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Now { volume, running, .. } = self.now.take().ok_or_else(|| Error::internal("No stream was begun"))?;
        let fail = || format!("Failed receiving volume \"{}\"", volume.name());
        let (mut receiving, mut done) =
            running.ok_or_else(|| Error::invalid("It is no stream of ZFS")).with_context(fail)?;
        receiving.finish().with_context(fail)?;
        fault::point("storage.stream.received")?;
        self.settle(&mut done).with_context(fail)?;
        self.done.push(done);
        Ok(())
    }

    fn identify(&self, volume: &Volume, _id: Option<&str>) -> Result<()> {
        let mark =
            self.done.iter().find(|done| done.volume == *volume && done.same).and_then(|done| done.mark.as_ref());
        let Some(mark) = mark else { return Ok(()) };
        tool::zfs(&["set", &format!("{FROM}={mark}"), &self.driver.root.at(&names::staged(volume))]).map(drop)
    }

    fn build_upon(&mut self, volume: &Volume, id: &str) -> Result<()> {
        let guid = id.parse().map_err(|_| Error::invalid(format!("Bad id {id:?}")))?;
        self.done.push(Done { volume: volume.clone(), guid, mark: None, same: true });
        Ok(())
    }
}
