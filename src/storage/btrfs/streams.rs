//! Volumes as streams of btrfs: sent by the kernel through a pipe, received by `tree`.

use super::Btrfs;
use super::tree::Tree;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::storage::send_stream::{Command, Parser, Uuid};
use crate::storage::streams::{Ids, Reading, Receiver, Streams};
use crate::storage::volume::Volume;
use crate::sys::{btrfs, btrfs_send};
use rustix::fd::AsFd;
use rustix::pipe::PipeFlags;
use std::fs::File;
use std::path::PathBuf;

/// Room in the pipe, bytes.
const PIPE: usize = 1 << 20;

impl Streams for Btrfs {
    fn seal(&self, volume: &Volume) -> Result<String> {
        let folder = self.pool.open_dir(&volume.path())?;
        if btrfs::has_nested(folder.as_fd())? {
            let text = "Subvolumes inside of a volume are not supported in optimized backups";
            return Err(Error::unsupported(text).hint("export it without --optimized-storage"));
        }
        btrfs::set_read_only(folder.as_fd(), true)?;
        Ok(text(btrfs_send::info(folder.as_fd())?.uuid))
    }

    fn send(&self, volume: &Volume, parents: &[&Volume], body: Reading<'_>) -> Result<()> {
        let id =
            |parent: &Volume| -> Result<u64> { Ok(btrfs_send::info(self.pool.open_dir(&parent.path())?.as_fd())?.id) };
        let (folder, parent) = (self.pool.open_dir(&volume.path())?, parents.last().map(|last| id(last)).transpose()?);
        let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // A user may have too many of them already.
        let _ = rustix::pipe::fcntl_setpipe_size(&input, PIPE);
        let (sent, read) = std::thread::scope(|scope| {
            let sender = scope.spawn(move || btrfs_send::send(folder.as_fd(), input.as_fd(), parent));
            let mut output = File::from(output);
            let read = body(&mut output);
            drop(output);
            (sender.join(), read)
        });
        let sent = sent.map_err(|_| Error::internal("The sending thread ended early"))?;
        match (sent, read) {
            (Err(e), Err(read)) if e.errno == libc::EPIPE => Err(read),
            (Err(e), _) if e.errno == libc::EPIPE => Err(Error::failed("The volume changed while it was read")),
            (Err(e), _) => Err(Error::from(e)),
            (Ok(()), read) => read,
        }
        .with_context(|| format!("Failed sending volume \"{}\"", volume.name()))
    }

    fn ids(&self, volume: &Volume) -> Result<Ids> {
        let info = btrfs_send::info(self.pool.open_dir(&volume.path())?.as_fd())?;
        Ok(Ids { own: text(info.uuid), received: (info.received != Uuid::default()).then(|| text(info.received)) })
    }

    fn receiver(&self, most: Option<u64>) -> Box<dyn Receiver + '_> {
        Box::new(Receive {
            driver: self,
            ours: most.is_none(),
            left: most.unwrap_or(u64::MAX),
            done: Vec::new(),
            now: None,
        })
    }
}

fn text(id: Uuid) -> String {
    uuid::Uuid::from_bytes(id).to_string()
}

fn id(text: &str) -> Result<Uuid> {
    uuid::Uuid::parse_str(text).map(uuid::Uuid::into_bytes).map_err(|_| Error::invalid(format!("Bad id {text:?}")))
}

/// A volume that was received, shown since or not.
struct Done {
    volume: Volume,
    /// What it was sent as.
    uuid: Uuid,
    transid: u64,
    /// Nothing was left out.
    whole: bool,
    /// It was there before.
    there: bool,
}

impl Done {
    /// Where it is by now: shown if it is not being put together any more.
    fn at(&self, driver: &Btrfs) -> Result<String> {
        let staged = self.volume.staged();
        Ok(if !self.there && driver.pool.has(&staged)? { staged } else { self.volume.path() })
    }
}

/// One that is being received.
struct Now {
    volume: Volume,
    parser: Parser,
    /// Once the stream has said what it is of.
    tree: Option<(Tree, Uuid, u64)>,
}

struct Receive<'a> {
    driver: &'a Btrfs,
    /// The streams are no stranger's.
    ours: bool,
    /// How many files and folders may still be made.
    left: u64,
    done: Vec<Done>,
    now: Option<Now>,
}

impl Now {
    fn start(&mut self, driver: &Btrfs, done: &[Done], limits: (bool, u64), command: &Command<'_>) -> Result<()> {
        let staged = self.volume.staged();
        let (uuid, transid, base) = match *command {
            Command::Subvolume { uuid, transid } => (uuid, transid, None),
            Command::Snapshot { uuid, transid, parent } => {
                let missing = || Error::invalid("The stream builds upon a volume that is not in the backup before it");
                let base = done.iter().find(|done| done.uuid == parent).ok_or_else(missing)?;
                let base = base.at(driver)?;
                driver.pool.remove(&staged)?;
                driver.snapshot(&base, &staged, false)?;
                (uuid, transid, Some((parent, driver.pool.open_dir(&base)?)))
            }
            _ => return Err(Error::internal("A stream without a beginning")),
        };
        driver.carry(&self.volume)?;
        let tree = Tree::new(driver.pool.open_dir(&staged)?, uuid, base, limits);
        self.tree = Some((tree, uuid, transid));
        fault::point("storage.stream.begun")
    }
}

impl Receiver for Receive<'_> {
    fn begin(&mut self, volume: &Volume) -> Result<PathBuf> {
        let staged = volume.staged();
        self.driver.make(&staged)?;
        self.now = Some(Now { volume: volume.clone(), parser: Parser::default(), tree: None });
        Ok(self.driver.pool.path(&staged))
    }

    fn feed(&mut self, piece: &[u8]) -> Result<()> {
        let Self { driver, ours, left, done, now } = self;
        let now = now.as_mut().ok_or_else(|| Error::internal("No stream was begun"))?;
        let mut parser = std::mem::take(&mut now.parser);
        let fed = parser.feed(piece, &mut |command| match &mut now.tree {
            Some((tree, ..)) => tree.apply(command),
            None => now.start(driver, done, (*ours, *left), command),
        });
        now.parser = parser;
        fed.with_context(|| format!("Failed receiving volume \"{}\"", now.volume.name()))
    }

    fn finish(&mut self) -> Result<()> {
        let now = self.now.take().ok_or_else(|| Error::internal("No stream was begun"))?;
        let Now { volume, parser, tree } = now;
        parser.finish().with_context(|| format!("Failed receiving volume \"{}\"", volume.name()))?;
        let (tree, uuid, transid) = tree.ok_or_else(|| Error::internal("A stream without a beginning"))?;
        let whole;
        (whole, self.left) = tree.finish();
        self.done.push(Done { volume, uuid, transid, whole, there: false });
        fault::point("storage.stream.received")
    }

    fn identify(&self, volume: &Volume, as_id: Option<&str>) -> Result<()> {
        match self.done.iter().find(|done| done.volume == *volume && done.whole) {
            Some(done) => {
                let folder = self.driver.pool.open_dir(&volume.staged())?;
                let uuid = as_id.map_or(Ok(done.uuid), id)?;
                Ok(btrfs_send::set_received(folder.as_fd(), uuid, done.transid)?)
            }
            None => Ok(()),
        }
    }

    fn build_upon(&mut self, volume: &Volume, as_id: &str) -> Result<()> {
        self.done.push(Done { volume: volume.clone(), uuid: id(as_id)?, transid: 0, whole: true, there: true });
        Ok(())
    }
}
