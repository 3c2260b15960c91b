//! Opening the state folder: trust checks, first use, the format gate, the run folder's boot stamp.
//!
//! Called by [`Store::open`] only. On a state folder that exists this is some fifteen system calls and no sync. It never
//! trusts a folder that somebody else owns or may write to, and never follows a symlink into one.

use super::atomic::{self, Durability};
use super::dir::Dir;
use super::layout::{Layout, rel};
use super::lock::{self, FileLock, Rank};
use super::types::{Server, first_project};
use super::{Access, migrate, record, trash};
use crate::base::names::ProjectName;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::host::boot_id;
use crate::model::profile::Profile;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// What opening gives.
pub(super) struct Opened {
    /// The state folder; none: a reader came before first use.
    pub state: Option<Dir>,
    /// The run folder; none: nothing ran since boot.
    pub run: Option<Dir>,
    /// The layout lock.
    pub layout: Option<File>,
}

/// What a state folder may hold before its `format` file is there (a first use that was killed), else it is somebody
/// else's folder and is left alone.
const BEGINNING: [&str; 10] =
    ["format", "server.toml", "locks", "ops", "projects", "images", "pools", "disks", "run", "lost+found"];

/// How readers and writers take the layout lock.
pub(super) fn open(layout: &Layout, access: Access, exclusive: bool) -> Result<Opened> {
    let write = access == Access::Write;
    let state = match trusted(&layout.state, "State folder")? {
        Some(dir) => dir,
        None if write => create(&layout.state, "State folder", 0o711)?,
        None => return Ok(Opened { state: None, run: None, layout: None }),
    };
    local(&state)?;
    let mut number = migrate::read_number(&state)?;
    if number.is_none() && !write {
        only_ours(&state)?;
        return Ok(Opened { state: None, run: None, layout: None });
    }
    if number.is_none() {
        first_use(&state).map_err(|e| read_only(e, &state))?;
        number = migrate::read_number(&state)?;
    }
    let lock = layout_lock(&state, write, exclusive)?;
    migrate::gate(&state, number, exclusive)?;
    let run = open_run(layout, &state, write)?;
    Ok(Opened { state: Some(state), run, layout: lock })
}

/// Opens a folder and checks that nobody else can have put anything into it. `None`: it is not there.
pub(super) fn trusted(path: &Path, what: &str) -> Result<Option<Dir>> {
    let shown = path.display();
    let dir = match Dir::open(path) {
        Ok(d) => d,
        Err(e) => {
            // Only now is it worth asking what lies there.
            let is_link = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
            return match e.raw_os_error() {
                Some(libc::ENOENT) => Ok(None),
                Some(libc::ENOTDIR | libc::ELOOP) if is_link => {
                    Err(Error::denied(format!("{what} \"{shown}\" is a symbolic link"))
                        .hint("Use a real folder, a bind mount, or point STAPES_DIR at the other place"))
                }
                Some(libc::EACCES) => Err(Error::denied(format!("{what} \"{shown}\" may not be opened"))
                    .hint("Run the command as the user it belongs to")
                    .caused_by(e)),
                _ => Err(e).with_context(|| format!("Failed opening {} \"{shown}\"", lower(what))),
            };
        }
    };
    let stat = rustix::fs::fstat(&dir)
        .map_err(std::io::Error::from)
        .with_context(|| format!("Failed checking {} \"{shown}\"", lower(what)))?;
    let euid = rustix::process::geteuid().as_raw();
    if stat.st_uid != euid {
        return Err(Error::denied(format!("{what} \"{shown}\" belongs to user id {}, not to {euid}", stat.st_uid))
            .hint("Run the command as that user, or choose another folder with STAPES_DIR"));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(Error::denied(format!(
            "{what} \"{shown}\" can be written by others (mode {:04o})",
            stat.st_mode & 0o7777
        ))
        .hint(format!("Check who changed it, then run: chmod go-w \"{shown}\"")));
    }
    Ok(Some(dir))
}

fn lower(what: &str) -> String {
    what[..1].to_lowercase() + &what[1..]
}

fn create(path: &Path, what: &str, mode: u32) -> Result<Dir> {
    let fail = || format!("Failed creating {} \"{}\"", lower(what), path.display());
    if let Some(parent) = path.parent() {
        // Folders above are not ours to judge; what we make of them is closed to others' writing, and to nothing else.
        let missing: Vec<&Path> = parent.ancestors().take_while(|p| !p.exists()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).with_context(fail)?;
        for made in missing.into_iter().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::set_permissions(made, std::fs::Permissions::from_mode(0o755)).with_context(fail)?;
        }
    }
    let made = match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => true,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(e) => return Err(e).with_context(fail),
    };
    let dir = trusted(path, what)?.ok_or_else(|| Error::failed(format!("{what} \"{}\" vanished", path.display())))?;
    if made {
        // Whatever the umask took.
        rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(mode))
            .map_err(std::io::Error::from)
            .with_context(fail)?;
    }
    Ok(dir)
}

/// Locks and process ids mean nothing between machines, and a dead file server would hang every command.
fn local(state: &Dir) -> Result<()> {
    let path = state.path("");
    let magic = rustix::fs::fstatfs(state)
        .map_err(std::io::Error::from)
        .with_context(|| format!("Failed checking state folder \"{}\"", path.display()))?
        .f_type;
    match network_file_system(magic as u32) {
        None => Ok(()),
        Some(name) => Err(Error::unsupported(format!("State folder \"{}\" is on {name}", path.display()))
            .hint("Choose a folder on a local file system with STAPES_DIR")),
    }
}

/// statfs(2) numbers.
fn network_file_system(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x0102_1997 => "9p",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "an SMB share",
        0x00c3_6400 => "CephFS",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        _ => return None,
    })
}

fn only_ours(state: &Dir) -> Result<()> {
    let path = state.path("");
    let names = state.names().with_context(|| format!("Failed listing \"{}\"", path.display()))?;
    match names.iter().find(|n| !BEGINNING.contains(&n.as_str())) {
        None => Ok(()),
        Some(n) => {
            Err(Error::invalid(format!("Folder \"{}\" is not a state folder: it holds \"{n}\"", path.display()))
                .hint("Choose an empty folder"))
        }
    }
}

/// Makes what every state folder has; `format` comes last and says that the rest is there. Syncs each record once; this
/// happens once in the life of a state folder.
fn first_use(state: &Dir) -> Result<()> {
    only_ours(state)?;
    let fail = || format!("Failed creating \"{}\"", state.path("").display());
    state.make("locks", 0o700).with_context(fail)?;
    let rel = lock::file_name(Rank::Layout, "first-use");
    let _alone = FileLock::take(state, &rel, true, lock::WAIT, "State folder")?;
    if migrate::read_number(state)?.is_some() {
        return Ok(());
    }
    fault::point("store.first-use.begin")?;
    for (folder, mode) in [(rel::OPS, 0o700), (rel::IMAGES, 0o700), (rel::POOLS, 0o711), (rel::PROJECTS, 0o700)] {
        state.make(folder, mode).with_context(fail)?;
    }
    let project = ProjectName::default();
    state.make_all(rel::profiles(&project), 0o700).with_context(fail)?;
    state.make(rel::instances(&project), 0o700).with_context(fail)?;
    record::write(state, rel::project(&project), &first_project(), Durability::Whole)?;
    let profile = rel::profiles(&project).join("default.toml");
    record::write(state, profile, &first_profile(), Durability::Whole)?;
    record::write(state, rel::SERVER, &Server::default(), Durability::Whole)?;
    fault::point("store.first-use.format")?;
    let number = format!("{}\n", migrate::FORMAT);
    atomic::write(state, OsStr::new("format"), number.as_bytes(), 0o600, Durability::Durable, true)
}

/// The default profile of a new project; empty until `ops` gives it a root disk.
pub(super) fn first_profile() -> Profile {
    Profile {
        format: 1,
        description: "Default Incus profile".into(),
        config: Default::default(),
        devices: Default::default(),
    }
}

/// EROFS and EACCES under a writer become one clear error.
fn read_only(e: Error, state: &Dir) -> Error {
    let path = state.path("");
    match e.errno() {
        Some(libc::EROFS) => Error::new(Kind::Denied, format!("State folder \"{}\" is read-only", path.display()))
            .hint("Remount it read-write, or choose another folder with STAPES_DIR"),
        Some(libc::EACCES | libc::EPERM) => {
            Error::new(Kind::Denied, format!("State folder \"{}\" cannot be written", path.display())).caused_by(e)
        }
        _ => e,
    }
}

/// A reader opens the lock file for reading, so that a read-only folder can be read; if it is missing there, nobody can
/// be writing through this mount either. A writer's open finds a read-only folder out.
fn layout_lock(state: &Dir, write: bool, exclusive: bool) -> Result<Option<File>> {
    let rel = lock::file_name(Rank::Layout, "layout");
    let flags = if write { OFlags::RDWR | OFlags::CREATE } else { OFlags::RDONLY };
    let file = match state.open_at(&rel, flags, 0o600) {
        Ok(f) => f,
        Err(e) if !write && e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            let e = Error::from(e).context(format!("Failed locking \"{}\"", state.path(&rel).display()));
            return Err(if write { read_only(e, state) } else { e });
        }
    };
    let wait = if exclusive { Duration::from_secs(5) } else { lock::WAIT };
    match lock::acquire(file, exclusive, wait).context("Failed locking the state folder")? {
        Some(f) => Ok(Some(f)),
        None if exclusive => Err(Error::busy("Other commands are using the state folder").hint("Try again later")),
        None => Err(Error::busy("The state folder is being reorganized by another command").hint("Try again later")),
    }
}

/// The layout lock for nobody else, if it can be had at once: no other command runs, and none begins until it is let go.
pub(super) fn alone(layout: &Layout) -> Result<Option<File>> {
    let Some(state) = trusted(&layout.state, "State folder")? else { return Ok(None) };
    let file = state.open_at(lock::file_name(Rank::Layout, "layout"), OFlags::RDONLY, 0)?;
    Ok(lock::try_lock(&file, true)?.then_some(file))
}

const STAMP: &str = "boot";

/// Opens `$RUN`. On a tmpfs it ends with the boot by itself; elsewhere (`STAPES_DIR`) a stamp with the boot id tells
/// leftovers of an earlier boot: a reader takes them as nothing, a writer clears them away.
fn open_run(layout: &Layout, state: &Dir, write: bool) -> Result<Option<Dir>> {
    let run = match trusted(&layout.run, "Run folder")? {
        Some(dir) => dir,
        None if write => create(&layout.run, "Run folder", 0o711)?,
        None => return Ok(None),
    };
    const TMPFS: u32 = 0x0102_1994;
    if rustix::fs::fstatfs(&run).is_ok_and(|s| s.f_type as u32 == TMPFS) || this_boot(&run)? {
        return Ok(Some(run));
    }
    if !write {
        return Ok(None);
    }
    let rel = lock::file_name(Rank::Layout, "run");
    let _alone = FileLock::take(state, &rel, true, lock::WAIT, "Run folder")?;
    if !this_boot(&run)? {
        let fail = || format!("Failed clearing \"{}\"", run.path("").display());
        for name in run.names().with_context(fail)? {
            trash::remove_tree(&run, OsStr::new(&name)).with_context(fail)?;
        }
        atomic::write(&run, OsStr::new(STAMP), boot_id::current()?.as_bytes(), 0o600, Durability::Fast, true)?;
    }
    Ok(Some(run))
}

fn this_boot(run: &Dir) -> Result<bool> {
    Ok(record::read_bytes(run, Path::new(STAMP))?
        .is_some_and(|b| boot_id::current().is_ok_and(|id| b == id.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn fixture() -> (tempfile::TempDir, Layout) {
        let d = tempfile::tempdir().expect("tempdir");
        let l = Layout::under(d.path());
        (d, l)
    }

    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn first_use_makes_the_defaults_once() {
        let (_d, l) = fixture();
        assert!(Store::open(&l, Access::Read).expect("reader").projects().expect("projects").len() == 1);
        assert!(!l.state.exists(), "a reader makes nothing");
        Store::open(&l, Access::Write).expect("first");
        for file in [l.format_file(), l.server_record(), l.project_record(&ProjectName::default())] {
            assert!(file.is_file(), "{}", file.display());
        }
        let before = std::fs::metadata(l.format_file()).expect("stat").modified().expect("mtime");
        Store::open(&l, Access::Write).expect("second");
        assert_eq!(before, std::fs::metadata(l.format_file()).expect("stat").modified().expect("mtime"));
        let mode = |p: &Path| std::fs::metadata(p).expect("stat").permissions().mode() & 0o777;
        assert_eq!((mode(&l.projects_dir()), mode(&l.locks_dir()), mode(&l.format_file())), (0o700, 0o700, 0o600));
    }

    #[test]
    fn many_first_uses_at_once_agree() {
        let (_d, l) = fixture();
        std::thread::scope(|s| {
            for t in (0..8).map(|_| s.spawn(|| Store::open(&l, Access::Write).map(drop))).collect::<Vec<_>>() {
                t.join().expect("thread").expect("open");
            }
        });
        assert!(Store::open(&l, Access::Read).expect("open").project(&ProjectName::default()).expect("read").is_some());
    }

    #[test]
    fn a_first_use_that_was_killed_is_completed_and_a_foreign_folder_is_left_alone() {
        let (_d, l) = fixture();
        std::fs::create_dir_all(l.projects_dir()).expect("half");
        std::fs::write(l.server_record(), "").expect("torn record");
        Store::open(&l, Access::Write).expect("completes");
        let (_d, l) = fixture();
        std::fs::create_dir_all(l.state.join("precious")).expect("foreign");
        for access in [Access::Read, Access::Write] {
            let e = Store::open(&l, access).expect_err("foreign");
            assert!(e.to_string().contains("is not a state folder: it holds \"precious\""), "{e}");
        }
        assert_eq!(std::fs::read_dir(&l.state).expect("list").count(), 1, "nothing was added");
    }

    #[test]
    fn permission_and_symlink_matrix() {
        for access in [Access::Read, Access::Write] {
            for (mode, good) in [
                (0o700, true),
                (0o711, true),
                (0o755, true),
                (0o770, false),
                (0o707, false),
                (0o777, false),
                (0o1777, false),
            ] {
                let (_d, l) = fixture();
                drop(Store::open(&l, Access::Write).expect("first"));
                for folder in [&l.state, &l.run] {
                    std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).expect("chmod");
                    let opened = Store::open(&l, access);
                    assert_eq!(opened.is_ok(), good, "{mode:o} {}", folder.display());
                    if let Err(e) = opened {
                        assert_eq!(e.kind(), Kind::Denied);
                        assert!(
                            e.to_string().contains(&folder.display().to_string()) && e.hint_text().is_some(),
                            "{e}"
                        );
                    }
                    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o711)).expect("chmod");
                }
            }
            let (d, l) = fixture();
            drop(Store::open(&l, Access::Write).expect("first"));
            for folder in [&l.state, &l.run] {
                let moved = d.path().join("moved");
                std::fs::rename(folder, &moved).expect("move");
                std::os::unix::fs::symlink(&moved, folder).expect("link");
                let e = Store::open(&l, access).expect_err("symlink");
                assert!(e.to_string().ends_with("is a symbolic link"), "{e}");
                std::fs::remove_file(folder).expect("unlink");
                std::fs::rename(&moved, folder).expect("back");
            }
        }
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        if !root() {
            crate::store::tests::skip!("a_folder_of_somebody_else_is_refused: needs root");
            return;
        }
        let (_d, l) = fixture();
        drop(Store::open(&l, Access::Write).expect("first"));
        for folder in [&l.state, &l.run] {
            std::os::unix::fs::chown(folder, Some(1000), None).expect("chown");
            for access in [Access::Read, Access::Write] {
                let e = Store::open(&l, access).expect_err("foreign");
                assert!(e.to_string().contains("belongs to user id 1000, not to 0"), "{e}");
            }
            std::os::unix::fs::chown(folder, Some(0), None).expect("chown");
        }
    }

    #[test]
    fn symlinks_and_swaps_inside_the_state_folder_lead_nowhere() {
        let (d, l) = fixture();
        drop(Store::open(&l, Access::Write).expect("first"));
        let elsewhere = d.path().join("elsewhere");
        std::fs::rename(l.projects_dir(), &elsewhere).expect("move");
        std::os::unix::fs::symlink(&elsewhere, l.projects_dir()).expect("link");
        let store = Store::open(&l, Access::Read).expect("open");
        assert!(store.project(&ProjectName::default()).is_err(), "a linked folder is not read through");
    }

    #[test]
    fn leftovers_of_an_earlier_boot_are_nothing() {
        let (_d, l) = fixture();
        drop(Store::open(&l, Access::Write).expect("first"));
        let tmpfs = !l.run.join(STAMP).exists();
        if tmpfs {
            crate::store::tests::skip!("leftovers_of_an_earlier_boot_are_nothing: the run folder is on a tmpfs");
            return;
        }
        std::fs::create_dir_all(l.run.join("instances/default_c1")).expect("leftover");
        std::fs::write(l.run.join(STAMP), "another boot").expect("stamp");
        drop(Store::open(&l, Access::Read).expect("reader"));
        assert!(l.run.join("instances").exists(), "a reader changes nothing");
        drop(Store::open(&l, Access::Write).expect("writer"));
        assert!(!l.run.join("instances").exists());
        assert!(l.run.join(STAMP).exists());
    }

    #[test]
    fn network_file_systems_are_named() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0x0102_1997), Some("9p"));
        assert_eq!(network_file_system(0xef53), None);
    }
}
