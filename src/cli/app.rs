//! The program's clap tree: global options and the table of verbs.
//!
//! Building the whole tree costs as much as starting the program, so a command line that names a verb gets a tree of that
//! verb only ([`command_for`]); help, completion and the generators take all of it ([`command`]).

use super::{Context, Outcome};
use super::{
    action, admin, alias, config, console, create, delete, doctor, exec, file, generate, image, info, list, network,
    profile,
};
use super::{
    backup, copy, project, publish_image, query, rebuild, remote, rename, run, snapshot, storage, version, wait,
    warning,
};
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use std::ffi::OsString;

// A doc comment here would become the program's description.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Show all debug messages
    #[arg(long, global = true)]
    pub debug: bool,
    /// If the command is valid, explain its parsed arguments instead of running it
    #[arg(long, global = true)]
    pub explain: bool,
    /// Does nothing: there is only the local host
    #[arg(long, global = true, hide = true)]
    pub force_local: bool,
    /// Print help
    #[arg(short, long, global = true)]
    pub help: bool,
    /// Override the source project
    #[arg(long, global = true, value_name = "project")]
    pub project: Option<String>,
    /// Don't show progress information
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Keep state, run-time files, cache and logs under this folder
    #[arg(long, global = true, value_name = "folder")]
    pub state_dir: Option<std::path::PathBuf>,
    /// Show all information messages
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Print version number
    #[arg(long, global = true)]
    pub version: bool,
}

/// A verb: how its part of the tree is built, and what runs it.
#[derive(Debug)]
pub struct Verb {
    name: &'static str,
    aliases: &'static [&'static str],
    build: fn(Command) -> Command,
    /// Runs the verb with what clap parsed.
    pub run: fn(&ArgMatches, &Context) -> Outcome,
}

macro_rules! verb {
    ($kind:ident $name:literal, $type:ty $(, $alias:literal)*) => {
        Verb {
            name: $name,
            aliases: &[$($alias),*],
            build: verb!(@$kind $type),
            run: |matches, cx| <$type>::from_arg_matches(matches)?.run(cx),
        }
    };
    (@command $type:ty) => { <$type as Args>::augment_args };
    (@group $type:ty) => { <$type as Subcommand>::augment_subcommands };
}

/// All verbs; `command` takes arguments, `group` has commands of its own.
const VERBS: &[Verb] = &[
    verb!(group "admin", admin::Admin),
    verb!(group "alias", alias::Alias),
    verb!(group "config", config::Config),
    verb!(command "console", console::Console),
    verb!(command "copy", copy::Copy, "cp"),
    verb!(command "create", create::Create, "init"),
    verb!(command "delete", delete::Delete, "rm", "remove"),
    verb!(command "doctor", doctor::Doctor),
    verb!(command "exec", exec::Exec),
    verb!(command "export", backup::Export),
    verb!(group "file", file::File),
    verb!(group "generate", generate::Generate),
    verb!(command "help", Help),
    verb!(group "image", image::Image),
    verb!(command "import", backup::Import),
    verb!(command "info", info::Info),
    verb!(command "launch", create::Launch),
    verb!(command "list", list::List, "ls"),
    verb!(command "move", copy::Move, "mv"),
    verb!(group "network", network::Network),
    verb!(command "pause", action::Pause, "freeze"),
    verb!(group "profile", profile::Profile),
    verb!(group "project", project::Project),
    verb!(command "publish", publish_image::Publish),
    verb!(command "query", query::Query),
    verb!(command "rebuild", rebuild::Rebuild),
    verb!(group "remote", remote::Remote),
    verb!(command "rename", rename::Rename),
    verb!(command "restart", action::Restart),
    verb!(command "resume", action::Resume, "unfreeze"),
    verb!(command "run", run::Run),
    verb!(command "shell", exec::Shell),
    verb!(group "snapshot", snapshot::Snapshot),
    verb!(command "start", action::Start),
    verb!(command "stop", action::Stop),
    verb!(group "storage", storage::Storage),
    verb!(command "version", version::Version),
    verb!(command "wait", wait::Wait),
    verb!(group "warning", warning::Warning),
];

impl Verb {
    /// The verb of this name or alias.
    pub fn find(name: &str) -> Option<&'static Self> {
        VERBS.iter().find(|verb| verb.name == name || verb.aliases.contains(&name))
    }

    fn command(&self) -> Command {
        let command = Command::new(self.name).visible_aliases(self.aliases.iter().copied());
        (self.build)(command)
    }
}

/// Help about any command
#[derive(Debug, Args)]
pub struct Help {
    /// Path of the command
    #[arg(value_name = "command")]
    pub command: Vec<String>,
}

impl Help {
    /// Shows the help of the command.
    ///
    /// # Errors
    /// There is no such command.
    pub fn run(self, cx: &Context) -> Outcome {
        let root = command(cx.env.program());
        let mut at = &root;
        let mut path = Vec::new();
        for name in &self.command {
            let found = at.get_subcommands().find(|c| c.get_name() == name || c.get_all_aliases().any(|a| a == name));
            at = found.ok_or_else(|| {
                crate::error::Error::not_found(format!("Unknown help topic {:?}", self.command.join(" ")))
            })?;
            path.push(at.get_name().to_string());
        }
        cx.print(super::help::render(&root, &path, cx.tty.stdout && !cx.env.no_color))?;
        Ok(super::DONE)
    }
}

const ABOUT: &str = "Command line client for stapes";
const LONG_ABOUT: &str = "Command line client for stapes

All of stapes's features can be driven through the various commands below.
For help with any of those, simply call them with --help.";

fn bare(program: &'static str) -> Command {
    let root = Command::new(program)
        .bin_name(program)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true);
    Global::augment_args(root).about(ABOUT).long_about(LONG_ABOUT)
}

/// The whole command tree of the program called `program`.
pub fn command(program: &'static str) -> Command {
    bare(program).subcommands(VERBS.iter().map(Verb::command))
}

/// The tree with only the verb that `words` (the program's name first) name; the whole of it if they name none.
pub fn command_for(program: &'static str, words: &[OsString]) -> Command {
    let verb = verb_at(words).and_then(|at| Verb::find(words[at].to_str()?));
    verb.map_or_else(|| command(program), |verb| bare(program).subcommand(verb.command()))
}

/// Which of `words` (the program's name first) names the verb; none where help is asked for before it.
pub fn verb_at(words: &[OsString]) -> Option<usize> {
    let mut rest = words.iter().enumerate().skip(1);
    while let Some((at, word)) = rest.next() {
        match word.to_str()? {
            "--project" | "--state-dir" => {
                rest.next();
            }
            // Help may be about the program.
            "--" | "-h" | "--help" => return None,
            word if word.starts_with('-') => {}
            _ => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_is_sound() {
        command("stapes").debug_assert();
    }

    #[test]
    fn a_part_of_the_tree_is_chosen_by_the_verb() {
        let verbs = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            command_for("stapes", &words).get_subcommands().count()
        };
        assert_eq!(verbs("stapes --project help -q --debug=true ls x"), 1);
        assert_eq!(verbs("stapes --state-dir=list list"), 1);
        for whole in ["stapes", "stapes lst", "stapes --help", "stapes --project list", "stapes -- list"] {
            assert_eq!(verbs(whole), VERBS.len(), "{whole}");
        }
        // The table of global options with a value above is right.
        let with_value = |a: &&clap::Arg| matches!(a.get_action(), clap::ArgAction::Set);
        let names: Vec<_> =
            bare("x").get_arguments().filter(with_value).filter_map(|a| a.get_long().map(String::from)).collect();
        assert_eq!(names, ["project", "state-dir"]);
    }

    #[test]
    fn every_command_and_option_is_described() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some_and(|a| !a.to_string().is_empty()), "{path} has no description");
            for arg in command.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{path} {} has no help", arg.get_id());
                assert!(arg.is_positional() || arg.get_long().is_some(), "{path} {} has no long name", arg.get_id());
                assert!(arg.is_positional() || !help.ends_with('.'), "{path} {}: full stop", arg.get_id());
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&command("stapes"), "stapes");
    }
}
