//! The command line: clap structs whose doc comments are the help, handlers that build one request and call one function of
//! `ops`, and everything printed.
//!
//! `main` reads the environment ([`env`]), puts in the user's aliases ([`alias_expand`]), brings the words into normal form ([`args`]), lets clap parse them ([`app`]),
//! makes a [`Context`] and calls the handler of the verb: one file a verb family, `pub fn run(self, &Context) -> Outcome`.
//! Errors are printed in [`report`] only. Nothing below this layer prints, prompts or reads the environment.

pub mod app;
pub mod args;
pub mod complete;
mod complete_names;
pub mod context;
pub mod edit;
pub mod env;
pub mod generate;
pub mod help;
pub mod kv;
pub mod output;
pub mod progress;
pub mod report;
mod unit;
pub mod usage;

pub mod action;
pub mod address_set;
pub mod admin;
pub mod alias;
mod alias_expand;
pub mod backup;
pub mod config;
pub mod config_metadata;
pub mod console;
pub mod copy;
pub mod create;
pub mod delete;
pub mod device;
pub mod doctor;
pub mod exec;
pub mod file;
pub mod image;
pub mod image_alias;
pub mod image_build;
pub mod image_copy;
pub mod image_import;
pub mod image_list;
pub mod image_metadata;
pub mod image_show;
pub mod info;
pub mod list;
pub mod list_cells;
pub mod network;
pub mod network_acl;
mod network_acl_rule;
mod network_forward;
mod network_list;
mod network_more;
mod network_ovn;
mod network_use;
mod network_zone;
mod network_zone_record;
pub mod profile;
pub mod profile_assign;
pub mod project;
mod project_change;
mod publish;
pub mod publish_image;
pub mod query;
pub mod rebuild;
pub mod recover;
mod remote;
pub mod rename;
pub mod run;
pub mod snapshot;
mod snapshot_config;
pub mod storage;
pub mod storage_change;
mod storage_volume;
mod storage_volume_backup;
mod storage_volume_copy;
mod storage_volume_delete;
mod storage_volume_file;
mod storage_volume_list;
mod storage_volume_snapshot;
mod storage_volume_use;
pub mod version;
pub mod wait;
pub mod warning;

pub use context::Context;
#[cfg(feature = "faults")]
pub use env::arm_faults;

use crate::error::Error;
use args::{Prepared, Request};
use clap::FromArgMatches;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// What a handler gives back: the exit code, or an error for [`report`].
pub type Outcome = anyhow::Result<ExitCode>;

/// A handler that succeeded.
pub const DONE: ExitCode = ExitCode::SUCCESS;

/// What `--version` prints.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\n");

/// Runs the command line `words` (the program's name first) to its end.
pub fn main(words: Vec<OsString>) -> ExitCode {
    // The measure of a bare start: without building the command tree.
    if words.len() == 2 && words[1] == "--version" {
        return print(VERSION).unwrap_or(ExitCode::FAILURE);
    }
    let env = env::Env::read(words.first().map_or(std::ffi::OsStr::new("stapes"), |w| w));
    let tty = context::Tty::probe();
    let color = tty.stderr && !env.no_color;
    complete::answer_shell(env.program());
    match dispatch(words, env, tty) {
        Ok(code) => code,
        Err(error) => report::report(&error, color),
    }
}

fn dispatch(words: Vec<OsString>, env: env::Env, tty: context::Tty) -> Outcome {
    let program = env.program();
    let mut words = alias_expand::expand(&env, words)?;
    // Incus's old name of the commands on profiles.
    if let Some(at) = app::verb_at(&words).filter(|at| words[*at] == "config")
        && words.get(at + 1).is_some_and(|word| word == "profile")
    {
        words.remove(at);
    }
    let mut command = app::command_for(program, &words);
    let prepared = match args::prepare(&command, words)? {
        Request::Version => return print(VERSION),
        Request::Help(path) => return print(&help::render(&command, &path, tty.stdout && !env.no_color)),
        Request::Run(prepared) => prepared,
    };
    let group = prepared.path.iter().try_fold(&command, |at, name| at.find_subcommand(name));
    if group.is_some_and(clap::Command::has_subcommands) {
        return print(&help::render(&command, &prepared.path, tty.stdout && !env.no_color));
    }
    let matches = match command.try_get_matches_from_mut(&prepared.words) {
        Ok(matches) => matches,
        Err(error) => return Err(usage_error(&error, &prepared, program, tty)?.into()),
    };
    let Some((name, of_verb)) = matches.subcommand() else { return print(&help::render(&command, &[], false)) };
    let verb = app::Verb::find(name).ok_or_else(|| Error::internal(format!("No handler for {name:?}")))?;
    let global = app::Global::from_arg_matches(&matches)?;
    if global.explain {
        print(&usage::line(program, &prepared.path))?;
        return print(
            "\nThis command was called with --explain; its arguments are valid, but no further processing is done\n",
        );
    }
    let cx = surroundings(global, env, tty)?;
    (verb.run)(of_verb, &cx)
}

/// Shows the usage (all of the help if nothing was given) and gives the error in Incus's words.
fn usage_error(
    error: &clap::Error,
    prepared: &Prepared,
    program: &'static str,
    tty: context::Tty,
) -> anyhow::Result<Error> {
    let ours = usage::translate(error, prepared);
    let positional = error.kind() != clap::error::ErrorKind::ValueValidation;
    if positional && prepared.positionals == 0 {
        print(&format!("{}\n", help::render(&app::command(program), &prepared.path, tty.stdout)))?;
    } else if positional {
        print(&format!("{}\n", usage::line(program, &prepared.path)))?;
    }
    Ok(ours)
}

fn surroundings(global: app::Global, env: env::Env, tty: context::Tty) -> anyhow::Result<Context> {
    let uid = nix::unistd::geteuid().as_raw();
    let layout = env.layout(global.state_dir.as_deref().map(Path::new), uid).ok_or_else(|| {
        Error::invalid("HOME isn't set, so there is no place for the state").hint("Set HOME or STAPES_DIR")
    })?;
    let named = global.project.filter(|p| !p.is_empty()).or_else(|| env.project.clone());
    let mut cx = Context {
        layout,
        project_given: named.is_some(),
        project: named.unwrap_or_else(|| "default".to_string()),
        quiet: global.quiet,
        verbose: global.verbose || global.debug,
        debug: global.debug,
        tty,
        env,
    };
    if !cx.project_given
        && let Some(switched) = cx.folders().project()?
    {
        cx.project = switched;
    }
    Ok(cx)
}

fn print(text: &str) -> Outcome {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(DONE)
}

/// The error for an option Incus has and this version has not.
pub(crate) fn refuse_option(option: &str, given: bool) -> Result<(), Error> {
    if given { Err(Error::unsupported(format!("The option {option} isn't supported yet"))) } else { Ok(()) }
}

/// The error for `--target`, in Incus's words: there is no cluster.
pub(crate) fn refuse_target(target: Option<&str>) -> Result<(), Error> {
    match target {
        Some(name) if !name.is_empty() => {
            Err(Error::unsupported("To use --target, the destination remote must be a cluster"))
        }
        _ => Ok(()),
    }
}
