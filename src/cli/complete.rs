//! Completion in the shell: what can stand where the cursor is.
//!
//! The scripts in `completions/` ask the program itself (variable `COMPLETE`), and clap's engine calls the functions below
//! for names. The engine's interface may change with a minor release of clap_complete, so it is used in this file and in
//! [`super::generate`] only. A completer never fails and never writes: it offers nothing instead.

use super::complete_names as names;
use crate::model::network::acl::AclRule;
use crate::ops::network;
use clap_complete::CompletionCandidate;
use clap_complete::env::{self, EnvCompleter, Shells};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

/// Answers a shell that asks for completions or for the script, and ends the program then; does nothing otherwise.
pub fn answer_shell(program: &'static str) {
    clap_complete::CompleteEnv::with_factory(|| one_name_each(super::app::command(program)))
        .bin(program)
        .completer(program)
        .shells(Shells(&[&Bash, &env::Elvish, &env::Fish, &env::Powershell, &env::Zsh]))
        .complete();
}

/// `command` with all commands below it offered by their names; the other names are offered where no name fits. The engine
/// offers one of them only, and that would be the first by the alphabet.
fn one_name_each(command: clap::Command) -> clap::Command {
    let command = command.mut_subcommands(one_name_each);
    let aliases = command.get_visible_aliases().map(|alias| &*String::from(alias).leak());
    let aliases: Vec<&'static str> = aliases.collect();
    if aliases.is_empty() { command } else { command.visible_alias(None::<&'static str>).aliases(aliases) }
}

/// bash, with a script of our own: clap's takes `remote:image` for three words.
#[derive(Debug)]
pub struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        env::Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        env::Bash.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        // The same names that go into clap's: ours, or the word that we were called by.
        let quoted = format!("'{}'", completer.replace('\'', "'\\''"));
        let script = include_str!("complete.bash").replace("NAME", &name.replace('-', "_")).replace("BIN", bin);
        out.write_all(script.replace("COMPLETER", &quoted).replace("VAR", var).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        env::Bash.write_complete(command, words, folder, out)
    }
}

/// Candidates among `all` that begin with what was typed.
fn matching(all: impl IntoIterator<Item = String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    all.into_iter().filter(|name| name.starts_with(typed.as_ref())).map(CompletionCandidate::new).collect()
}

/// Instances.
pub fn instances(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::instances(false), typed)
}

/// Instances that run.
pub fn running_instances(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::instances(true), typed)
}

/// Local images, those that can be built, and those that servers were last known to have.
pub fn images(typed: &OsStr) -> Vec<CompletionCandidate> {
    let built = names::bootstrap().into_iter().map(|name| format!("bootstrap:{name}"));
    let offered = names::offered(&typed.to_string_lossy());
    matching(names::images().into_iter().chain(built).chain(offered), typed)
}

/// Local images.
pub fn local_images(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::images(), typed)
}

/// Aliases of commands.
pub fn command_aliases(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::command_aliases(), typed)
}

/// Profiles.
pub fn profiles(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::profiles(), typed)
}

/// Managed networks.
pub fn networks(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::networks(), typed)
}

/// Network ACLs.
pub fn acls(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::acls(), typed)
}

/// Fields of the rules of ACLs, with their `=`.
pub fn acl_rule_fields(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(AclRule::FIELDS.iter().map(|name| format!("{name}=")), typed)
}

/// Address sets.
pub fn address_sets(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::address_sets(), typed)
}

/// Forwards of the network that stands on the command line.
pub fn forwards(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::forwards(), typed)
}

/// Keys of forwards.
pub fn forward_keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(vec![network::forwards::TARGET.to_string()], typed)
}

/// Protocols of ports.
pub fn protocols(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(vec!["tcp".to_string(), "udp".to_string()], typed)
}

/// DNS zones.
pub fn zones(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::zones(), typed)
}

/// Keys of networks.
pub fn network_keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::network_keys(), typed)
}

/// Storage pools.
pub fn pools(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::pools(), typed)
}

/// Custom volumes of the pool on the command line.
pub fn volumes(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::volumes(), typed)
}

/// Snapshots of the volume before them.
pub fn volume_snapshots(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::volume_snapshots(), typed)
}

/// Keys of volumes.
pub fn volume_keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::volume_keys(), typed)
}

/// Drivers of storage pools.
pub fn storage_drivers(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::storage_drivers(), typed)
}

/// Keys of storage pools.
pub fn pool_keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::pool_keys(), typed)
}

/// Projects.
pub fn projects(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::projects(), typed)
}

/// Options of projects.
pub fn project_keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::project_keys(), typed)
}

/// Configuration keys.
pub fn keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::keys(), typed)
}

/// Configuration keys with a `=` behind them.
pub fn key_assignments(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::keys().into_iter().map(|key| format!("{key}=")), typed)
}

/// Instances, and keys (the engine does not say which word it is).
pub fn instance_then_key(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::instances(false).into_iter().chain(names::keys()).chain(names::server_keys()), typed)
}

/// Instances, and keys with a `=`.
pub fn instance_then_assignment(typed: &OsStr) -> Vec<CompletionCandidate> {
    let keys = names::keys().into_iter().chain(names::server_keys());
    let assignments = keys.map(|key| format!("{key}="));
    matching(names::instances(false).into_iter().chain(assignments), typed)
}

/// Snapshots of the instance before them.
pub fn snapshots(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::snapshots(), typed)
}

/// Templates of the instance before them.
pub fn templates(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::templates(), typed)
}

/// Instances with the `/` that a path follows.
pub fn instance_paths(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::instances(false).into_iter().map(|name| format!("{name}/")), typed)
}

/// Instances and profiles.
pub fn device_owners(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::instances(false).into_iter().chain(names::profiles()), typed)
}

/// Devices of the instance or profile before them.
pub fn devices(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(names::devices(), typed)
}

/// Types of devices.
pub fn device_types(typed: &OsStr) -> Vec<CompletionCandidate> {
    let types =
        ["disk", "gpu", "infiniband", "nic", "none", "proxy", "tpm", "unix-block", "unix-char", "unix-hotplug", "usb"];
    matching(types.map(String::from), typed)
}

/// Output formats.
pub fn formats(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(["compact", "csv", "json", "markdown", "table", "yaml"].map(String::from), typed)
}
