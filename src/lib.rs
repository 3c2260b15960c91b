//! stapes: system containers with the command line of Incus, and without its daemon.
//!
//! One static binary. Each command takes file locks on a state directory, does its work with clone3, the mount API and cgroup
//! v2, and ends. Nothing is resident but one monitor per running instance.
//!
//! # Layers
//!
//! A module uses its own layer's `error` and `fault`, and lower layers; `tests/layering.rs` compares every `use` with a table.
//!
//! | | module | what it is |
//! |---|---|---|
//! | L0 | [`error`], [`fault`] | the one error type; named fault points of test builds |
//! | L0 | [`sys`] | the only unsafe code: one file per kernel subject; `sys::child` is what runs between clone and exec |
//! | L1 | [`base`] | value types and parsers, no I/O |
//! | L2 | [`model`] | what things are, no I/O; `model::keys` declares every configuration key once |
//! | L3 | [`host`] | the machine: processes, cgroups, interfaces and routes, host ids, systemd, other programs |
//! | L3 | [`store`] | the state directory: records, ranked locks, journals, recovery |
//! | L4 | [`image`], [`storage`], [`network`], [`device`], [`guest`], [`container`], [`remote`] | one subject each; they meet in `model::attach` |
//! | L5 | [`ops`] | use cases, one file per verb family |
//! | L6 | [`cli`], [`monitor`], [`proxy`], [`nameserver`] | the fronts: the command line, and the roles of an instance, a device, and DNS zones |
//!
//! `host` stands below `store`, because the store asks it which processes live.
//!
//! # How `launch` travels
//!
//! `cli::create` builds a request → `ops::image` finds or builds the image, unpacked once in the pool → `ops::create` checks
//! everything, takes project, pool and image shared and the instance exclusively, begins a journal → `storage` makes the
//! volume (a few folders on `overlay`) → the record is published: the commit point → `ops::start` generates the image's
//! templates, has devices state their needs, and builds the plan (an OCI runtime specification plus what that lacks) →
//! `ops::spawn` re-executes the binary as monitor in a cgroup and session of its own, with the plan in a sealed memory file →
//! `monitor` → `container::start` clones process 1 straight into its cgroup, writes the id maps, mounts everything detached
//! and hands the descriptors over; the child attaches them after pivot_root and executes init → the monitor writes the run
//! record and says so → the command ends. When process 1 ends, the monitor takes the instance's lock and
//! `ops::lifecycle::exited` cleans up, restarts or deletes.
//!
//! # What holds
//!
//! - **Records** are replaced atomically and only with a proof of the lock in hand. Creating an instance syncs two files and
//!   one folder; starting it one file, while the container starts.
//! - **Journals** hold undo as data. A failing command and recovery after a kill run the same code; the next mutating command
//!   settles what a killed one left.
//! - **Processes** are named by pid, start time and boot id, and reached by pidfd. Process 1 dies with its monitor, so nothing
//!   of an instance outlives the one who would record its end.
//! - **Paths** that a guest or an image controls are resolved by openat2 beneath a descriptor (`sys::path`), or by process 1
//!   inside its own root. No mount of an instance ever shows in the host's table: root file systems are assembled detached, with
//!   id-mapped layers; overlayfs is made with the container root's file-system ids, so that both layers stay unshifted on disk.
//! - **Storage pools** lie in the state folder, in a folder of the user's that bears the pool's mark (`storage::source`), or in a
//!   file system of their own (`storage::disk`). The last kind is mounted by the first command that opens the pool after a boot
//!   (`ops::pool_place`): the one mount of ours that shows in the host's table.
//! - **Snapshots** are volumes beside their instance's (`storage::Driver::copy`), taken while the instance is frozen and on disk
//!   before their record is. Whatever takes the place of a volume – restoring, rebuilding, refreshing a copy – is made beside
//!   it and swapped in after the journal's commit, forward (`storage::Driver::finish_restore`).
//! - **Backups** stream both ways (`ops::backup`): read-only views of volumes (`container::rootfs::view`) into an archive, and
//!   an archive through the unpacker of images into volumes that nobody sees yet.
//! - **The clock**: `ops::maintain` does what was due since its last run, once; a snapshot says itself what it was taken for.
//! - **Limits** are files of the instance's cgroup, written before process 1 is cloned into it. A live change is in a journal
//!   whose undo is the record, so that record and kernel agree whatever happens. CPUs by number are divided among all that run
//!   under one allocator lock (`ops::cpus`), on a table that is there only while somebody asks.
//! - **Our binary** cannot be reached from a privileged instance: whoever goes there runs from a read-only overlay view of it.
//! - **AppArmor**: where it is on, each instance has a profile of its own (`container::apparmor` writes it, `ops::confine` loads
//!   and removes it, `host::lsm` talks to the kernel), and a policy namespace to fill where the kernel stacks them; process 1
//!   changes over last before its exec, and the monitor compares.
//! - **Interfaces** are made and read through netlink in-process (`host::links`): a change is data, several go with one system
//!   call, and the kernel's own words reach the user. Another network namespace is entered by a thread that ends with its
//!   work (`sys::ns::inside_net`), never by a process.
//! - **Outside tools** that mount and start things run in mount and pid namespaces of their own (`sys::inherit::contain`).
//! - **systemd**: where it runs, all instances live in one delegated transient scope, made by the first start (`host::scope`);
//!   a start that finds it there talks to nobody. `start --foreground` (`ops::foreground`) keeps an instance in the calling
//!   unit's own group. SIGTERM to whoever keeps a container shuts it down (`ops::keep`); `ops::power` is the host's boot and
//!   shutdown.
//!
//! # Where this differs from the first design
//!
//! - `/dev` is one tmpfs with real device nodes made by the host, not a row of bind mounts: fewer mounts, faster.
//! - Images of OCI registries share their layers in an overlay pool: a layer stays as long as an image names it (`storage::layers`); it
//!   is written through an overlay of those below it, so the kernel makes its whiteouts (`ops::image_layers`).
//! - The layers of an overlay are id-mapped, the upper one too; nothing on disk is ever shifted on file systems that can do it.
//! - `run` has no monitor process: the command is its own, with its journal open until the end, and its overlay is volatile.
//! - `exec` hands pipes to the command as they are and relays everything else.
//! - Lock files of instances and images go with their objects: their holder unlinks them when the record is gone, and whoever
//!   wins an unlinked file begins again (`store::lock_end`). Else there would be one for every name ever used.
//! - Inside a container no device node can be made: those around us are bound instead, and all else is the same.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files and start programs"))]

pub mod error;
pub mod fault;
pub mod sys;

pub mod base;

pub mod model;

pub mod host;
pub mod store;

pub mod container;
pub mod device;
pub mod guest;
pub mod image;
pub mod network;
pub mod remote;
pub mod storage;

pub mod ops;

pub mod cli;
pub mod monitor;
pub mod nameserver;
pub mod proxy;
