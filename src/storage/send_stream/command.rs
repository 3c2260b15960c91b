//! The commands of a stream and the values they come with.

use super::bad;
use crate::error::{Error, Result};
use crate::sys::path::Kind;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A universally unique id.
pub type Uuid = [u8; 16];

/// Longest value of an attribute (`XATTR_SIZE_MAX`).
const ATTRIBUTE_MAX: usize = 64 << 10;

/// What is to be done, and with what. Paths are relative to the root of the subvolume; the empty one is the root itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// The stream is of all of a subvolume.
    Subvolume { uuid: Uuid, transid: u64 },
    /// The stream is of what differs from the subvolume `parent`.
    Snapshot { uuid: Uuid, transid: u64, parent: Uuid },
    /// Makes a file, a folder, a pipe or a socket.
    Make { path: &'a Path, kind: Kind },
    /// Makes a device.
    Node { path: &'a Path, kind: Kind, device: (u32, u32) },
    /// Makes a symbolic link.
    Symlink { path: &'a Path, target: &'a OsStr },
    /// Renames.
    Rename { path: &'a Path, to: &'a Path },
    /// Gives `existing` the further name `path`.
    Link { path: &'a Path, existing: &'a Path },
    /// Removes a name that is no folder.
    Unlink { path: &'a Path },
    /// Removes an empty folder.
    RemoveDir { path: &'a Path },
    /// Sets an extended attribute.
    SetAttribute { path: &'a Path, name: &'a [u8], value: &'a [u8] },
    /// Removes one.
    RemoveAttribute { path: &'a Path, name: &'a [u8] },
    /// Writes into a file.
    Write { path: &'a Path, offset: u64, data: &'a [u8] },
    /// Has a part of a file share its blocks with a part of one of the subvolume `uuid`.
    Clone { path: &'a Path, offset: u64, len: u64, from: Source<'a> },
    /// Gives a file a length.
    Truncate { path: &'a Path, size: u64 },
    /// Sets the permission bits.
    Mode { path: &'a Path, mode: u32 },
    /// Sets the owner.
    Owner { path: &'a Path, uid: u32, gid: u32 },
    /// Sets the modification time: seconds, nanoseconds.
    Times { path: &'a Path, mtime: (i64, u32) },
    /// As fallocate(2).
    Allocate { path: &'a Path, mode: u32, offset: u64, len: u64 },
    /// Of no consequence here.
    Ignored,
    /// The last one.
    End,
}

/// Where blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// The subvolume.
    pub uuid: Uuid,
    /// The file in it.
    pub path: &'a Path,
    /// Where in that.
    pub offset: u64,
}

// Numbers of values (BTRFS_SEND_A_*).
const UUID: usize = 1;
const TRANSID: usize = 2;
const SIZE: usize = 4;
const MODE: usize = 5;
const UID: usize = 6;
const GID: usize = 7;
const RDEV: usize = 8;
const MTIME: usize = 10;
const XATTR_NAME: usize = 13;
const XATTR_DATA: usize = 14;
const PATH: usize = 15;
const PATH_TO: usize = 16;
const PATH_LINK: usize = 17;
const FILE_OFFSET: usize = 18;
const DATA: usize = 19;
const CLONE_UUID: usize = 20;
const CLONE_PATH: usize = 22;
const CLONE_OFFSET: usize = 23;
const CLONE_LEN: usize = 24;
const FALLOCATE_MODE: usize = 25;
/// One more than the last.
const VALUES: usize = 32;

/// The values of one command.
pub(super) struct Values<'a>([Option<&'a [u8]>; VALUES]);

impl<'a> Values<'a> {
    /// Those in the body of a command.
    pub fn read(mut body: &'a [u8], version: u32) -> Result<Self> {
        let mut all = [None; VALUES];
        while !body.is_empty() {
            let (number, rest) = body.split_first_chunk::<2>().ok_or_else(|| bad("a value is cut"))?;
            let number = usize::from(u16::from_le_bytes(*number));
            let (value, after) = match version > 1 && number == DATA {
                // It is the last one and as long as the command.
                true => (rest, &[][..]),
                false => {
                    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(|| bad("a value is cut"))?;
                    let length = usize::from(u16::from_le_bytes(*length));
                    rest.split_at_checked(length).ok_or_else(|| bad("a value is longer than its command"))?
                }
            };
            match all.get_mut(number) {
                Some(place @ None) if number != 0 => *place = Some(value),
                _ => return Err(bad(format_args!("an unknown value or one that is there twice: {number}"))),
            }
            body = after;
        }
        Ok(Self(all))
    }

    fn bytes(&self, number: usize) -> Result<&'a [u8]> {
        self.0[number].ok_or_else(|| bad(format_args!("the value {number} is missing")))
    }

    fn fixed<const N: usize>(&self, number: usize) -> Result<[u8; N]> {
        self.bytes(number)?.try_into().map_err(|_| bad(format_args!("the value {number} has a wrong length")))
    }

    fn number(&self, number: usize) -> Result<u64> {
        self.fixed(number).map(u64::from_le_bytes)
    }

    /// An offset or a length, as the kernel takes it.
    fn position(&self, number: usize) -> Result<u64> {
        self.number(number).and_then(|n| match i64::try_from(n) {
            Ok(_) => Ok(n),
            Err(_) => Err(bad(format_args!("a position or length of {n}"))),
        })
    }

    fn id(&self, number: usize) -> Result<u32> {
        // The last one means "not to be changed".
        let id = u32::try_from(self.number(number)?).ok().filter(|id| *id != u32::MAX);
        id.ok_or_else(|| bad("an owner that cannot be"))
    }

    /// A name in the subvolume, which may be its root.
    fn path(&self, number: usize) -> Result<&'a Path> {
        let bytes = self.bytes(number)?;
        let good = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && part.len() <= 255 && !part.contains(&0);
        if bytes.len() > 4095 || !(bytes.is_empty() || bytes.split(|b| *b == b'/').all(good)) {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            return Err(bad(format_args!("the name {shown:?}")));
        }
        Ok(Path::new(OsStr::from_bytes(bytes)))
    }

    fn attribute(&self) -> Result<&'a [u8]> {
        let name = self.bytes(XATTR_NAME)?;
        match !name.is_empty() && name.len() <= 255 && !name.contains(&0) {
            true => Ok(name),
            false => Err(bad("the name of an attribute")),
        }
    }

    fn target(&self) -> Result<&'a OsStr> {
        let target = self.bytes(PATH_LINK)?;
        match !target.is_empty() && target.len() <= 4095 && !target.contains(&0) {
            true => Ok(OsStr::from_bytes(target)),
            false => Err(bad("the target of a link")),
        }
    }

    fn value(&self) -> Result<&'a [u8]> {
        self.bytes(XATTR_DATA).and_then(|value| match value.len() <= ATTRIBUTE_MAX {
            true => Ok(value),
            false => Err(bad("the value of an attribute is too long")),
        })
    }

    fn device(&self) -> Result<(u32, u32)> {
        let device = self.number(RDEV)?;
        Ok((rustix::fs::major(device), rustix::fs::minor(device)))
    }

    fn node(&self) -> Result<Kind> {
        // S_IFMT, S_IFCHR, S_IFBLK.
        match self.number(MODE)? & 0o170_000 {
            0o020_000 => Ok(Kind::Char),
            0o060_000 => Ok(Kind::Block),
            _ => Err(bad("a device that is none")),
        }
    }

    fn mtime(&self) -> Result<(i64, u32)> {
        let [seconds @ .., a, b, c, d] = self.fixed::<12>(MTIME)?;
        let nanos = u32::from_le_bytes([a, b, c, d]);
        match nanos < 1_000_000_000 {
            true => Ok((i64::from_le_bytes(seconds), nanos)),
            false => Err(bad("a time")),
        }
    }
}

impl<'a> Command<'a> {
    /// The command with that number (`BTRFS_SEND_C_*`).
    pub(super) fn read(number: u16, values: &Values<'a>) -> Result<Self> {
        let path = || values.path(PATH);
        let make = |kind| path().map(|path| Self::Make { path, kind });
        Ok(match number {
            1 => Self::Subvolume { uuid: values.fixed(UUID)?, transid: values.number(TRANSID)? },
            2 => Self::Snapshot {
                uuid: values.fixed(UUID)?,
                transid: values.number(TRANSID)?,
                parent: values.fixed(CLONE_UUID)?,
            },
            3 => make(Kind::File)?,
            4 => make(Kind::Dir)?,
            5 => Self::Node { path: path()?, kind: values.node()?, device: values.device()? },
            6 => make(Kind::Fifo)?,
            7 => make(Kind::Socket)?,
            8 => Self::Symlink { path: path()?, target: values.target()? },
            9 => Self::Rename { path: path()?, to: values.path(PATH_TO)? },
            10 => Self::Link { path: path()?, existing: values.path(PATH_LINK)? },
            11 => Self::Unlink { path: path()? },
            12 => Self::RemoveDir { path: path()? },
            13 => Self::SetAttribute { path: path()?, name: values.attribute()?, value: values.value()? },
            14 => Self::RemoveAttribute { path: path()?, name: values.attribute()? },
            15 => Self::Write { path: path()?, offset: values.position(FILE_OFFSET)?, data: values.bytes(DATA)? },
            16 => Self::Clone {
                path: path()?,
                offset: values.position(FILE_OFFSET)?,
                len: values.position(CLONE_LEN)?,
                from: Source {
                    uuid: values.fixed(CLONE_UUID)?,
                    path: values.path(CLONE_PATH)?,
                    offset: values.position(CLONE_OFFSET)?,
                },
            },
            17 => Self::Truncate { path: path()?, size: values.position(SIZE)? },
            18 => Self::Mode { path: path()?, mode: (values.number(MODE)? & 0o7777) as u32 },
            19 => Self::Owner { path: path()?, uid: values.id(UID)?, gid: values.id(GID)? },
            20 => Self::Times { path: path()?, mtime: values.mtime()? },
            21 => Self::End,
            22 => return Err(Error::unsupported("The stream of a subvolume holds no data of files")),
            23 => Self::Allocate {
                path: path()?,
                mode: u32::from_le_bytes(values.fixed(FALLOCATE_MODE)?),
                offset: values.position(FILE_OFFSET)?,
                len: values.position(SIZE)?,
            },
            // Flags of files, which btrfs itself does not set from a stream, either.
            24 => Self::Ignored,
            25 => {
                let text = "Streams of subvolumes with compressed data are not supported";
                return Err(Error::unsupported(text).hint("send it without --compressed-data"));
            }
            _ => return Err(bad(format_args!("the command {number}"))),
        })
    }
}
