//! `generate`: a systemd unit for an instance, and, hidden, manual pages and completion scripts, committed under `man/` and
//! `completions/`.
//!
//! `tests/generated.rs` compares the committed files with [`man_pages`] and [`completion_scripts`].

use super::unit::Unit;
use super::{Context, DONE, Outcome, app, complete, help, kv, usage};
use crate::base::names::InstanceName;
use crate::error::{Context as _, Error, Result};
use crate::ops::{load, power};
use crate::store::layout::Layout;
use clap::{Args, Command, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::path::Path;

/// Generate files for other programs
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Generate the shells' completion scripts
    #[command(hide = true)]
    Completions(Folder),
    /// Generate the manual pages
    #[command(hide = true)]
    Man(Folder),
    Systemd(Systemd),
}

/// Print a systemd unit that runs an instance
///
/// The unit starts the instance with "start --foreground", so that systemd sees its end, restarts it after a failure and has
/// its console in the journal. State folder and project are those of this command. To use it:
///
///     stapes generate systemd c1 > /etc/systemd/system/stapes-c1.service
///     systemctl enable --now stapes-c1.service
#[derive(Debug, Args)]
pub struct Systemd {
    /// The instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
}

#[derive(Debug, Clone, Args)]
pub struct Folder {
    /// Folder to write to
    #[arg(value_name = "directory", value_hint = clap::ValueHint::DirPath)]
    pub directory: std::path::PathBuf,
}

impl Generate {
    /// Writes the files.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn run(self, cx: &Context) -> Outcome {
        let (folder, files) = match self {
            Self::Completions(folder) => (folder, completion_scripts()?),
            Self::Man(folder) => (folder, man_pages()?),
            Self::Systemd(systemd) => return systemd.run(cx),
        };
        write(&folder.directory, &files)?;
        Ok(DONE)
    }
}

impl Systemd {
    fn run(self, cx: &Context) -> Outcome {
        let name = InstanceName::parse(&kv::local(&self.instance)?).map_err(|_| load::not_found())?;
        let store = cx.reader()?;
        let project = cx.project(&store)?;
        let loaded = load::load(&store, &project, &name)?;
        let program = std::env::current_exe().context("Failed finding our own program")?;
        let unit = Unit {
            program: &program,
            state_dir: state_dir(&cx.layout)?,
            project: project.as_str(),
            name: name.as_str(),
            patience: power::stop_terms(&loaded.expanded.config)?,
        };
        cx.print(unit.text())?;
        Ok(DONE)
    }
}

/// The folder to name to the system's manager; none for its own places.
fn state_dir(layout: &Layout) -> Result<Option<&Path>> {
    let parent = layout.state.parent().unwrap_or(Path::new("/"));
    match layout {
        _ if *layout == Layout::system() => Ok(None),
        _ if *layout == Layout::under(parent) && parent.is_absolute() => Ok(Some(parent)),
        _ => Err(Error::unsupported(
            "Units are made for the system's own instances, or for a state folder by its full path",
        )),
    }
}

/// A generated file: its name and its content.
pub type File = (String, Vec<u8>);

#[expect(clippy::disallowed_methods, reason = "no records: files for packagers")]
fn write(folder: &Path, files: &[File]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("Failed creating {folder:?}"))?;
    for (name, content) in files {
        std::fs::write(folder.join(name), content).with_context(|| format!("Failed writing {name:?}"))?;
    }
    Ok(())
}

/// One page a command: `stapes.1`, `stapes-launch.1`, `stapes-config-device-add.1`.
///
/// # Errors
/// None in practice: it writes to memory.
pub fn man_pages() -> Result<Vec<File>> {
    let root = app::command("stapes");
    let mut pages = Vec::new();
    collect(&root, &root, &mut Vec::new(), &mut pages)?;
    pages.sort();
    Ok(pages)
}

fn collect(root: &Command, command: &Command, path: &mut Vec<String>, pages: &mut Vec<File>) -> Result<()> {
    let mut name = vec![root.get_name().to_string()];
    name.extend(path.iter().cloned());
    pages.push((format!("{}.1", name.join("-")), page(root, command, path).to_roff().into_bytes()));
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        path.push(sub.get_name().to_string());
        collect(root, sub, path, pages)?;
        path.pop();
    }
    Ok(())
}

fn page(root: &Command, command: &Command, path: &[String]) -> Roff {
    let mut words = vec![root.get_name()];
    words.extend(path.iter().map(String::as_str));
    let dashed = words.join("-");
    let version = format!("stapes {}", env!("CARGO_PKG_VERSION"));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("TH", [dashed.to_uppercase().as_str(), "1", "", version.as_str(), "User Commands"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{dashed} - {about}"))]);
    roff.control("SH", ["SYNOPSIS"]);
    let grammar = usage::grammar(path).unwrap_or("[command]").replace("[flags] ", "");
    roff.text([bold(words.join(" ")), roman(format!(" {grammar} [flags]").replace("  ", " "))]);
    roff.control("SH", ["DESCRIPTION"]);
    verbatim(&mut roff, &help::description(command));
    commands(&mut roff, command, &dashed);
    options(&mut roff, if path.is_empty() { "OPTIONS" } else { "GLOBAL OPTIONS" }, root, command, path.is_empty());
    if let Some(examples) = command.get_after_help() {
        roff.control("SH", ["EXAMPLES"]);
        verbatim(&mut roff, &examples.to_string());
    }
    see_also(&mut roff, &words);
    roff
}

/// Keeps the line breaks.
fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.trim_end().lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn commands(roff: &mut Roff, command: &Command, dashed: &str) {
    let mut shown: Vec<&Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    if shown.is_empty() {
        return;
    }
    shown.sort_by_key(|c| c.get_name().to_string());
    roff.control("SH", ["COMMANDS"]);
    for sub in shown {
        roff.control("TP", []);
        roff.text([bold(format!("{dashed}-{}(1)", sub.get_name()))]);
        let aliases: Vec<&str> = sub.get_visible_aliases().collect();
        let aliases = if aliases.is_empty() { String::new() } else { format!(" (also: {})", aliases.join(", ")) };
        roff.text([roman(format!("{}{aliases}", sub.get_about().map(ToString::to_string).unwrap_or_default()))]);
    }
}

fn options(roff: &mut Roff, global: &str, root: &Command, command: &Command, is_root: bool) {
    if !is_root {
        option_block(roff, "OPTIONS", command);
    }
    option_block(roff, global, root);
}

fn option_block(roff: &mut Roff, heading: &str, command: &Command) {
    let mut shown: Vec<_> = command.get_arguments().filter(|a| !a.is_positional() && !a.is_hide_set()).collect();
    shown.sort_by_key(|a| a.get_long().unwrap_or_default().to_string());
    if shown.is_empty() {
        return;
    }
    roff.control("SH", [heading]);
    for arg in shown {
        roff.control("TP", []);
        let long = format!("--{}", arg.get_long().unwrap_or_default());
        let names = arg.get_short().map_or(long.clone(), |short| format!("-{short}, {long}"));
        let takes_value = matches!(arg.get_action(), clap::ArgAction::Set | clap::ArgAction::Append);
        let value = arg.get_value_names().and_then(|n| n.first()).filter(|_| takes_value);
        match value {
            Some(value) if arg.is_require_equals_set() => {
                roff.text([bold(names), roman("[="), italic(value.as_str()), roman("]")])
            }
            Some(value) => roff.text([bold(names), roman(" "), italic(value.as_str())]),
            None => roff.text([bold(names)]),
        };
        roff.text([roman(help::flag_text(arg))]);
    }
}

fn see_also(roff: &mut Roff, words: &[&str]) {
    if let [parents @ .., _] = words
        && !parents.is_empty()
    {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold(parents.join("-")), roman("(1)")]);
    }
}

/// `stapes.bash`, `_stapes` for zsh and `stapes.fish`: each registers the program as its own completer.
///
/// # Errors
/// The engine failed to write.
pub fn completion_scripts() -> Result<Vec<File>> {
    use clap_complete::env::{EnvCompleter, Fish, Zsh};
    let shells: [(&str, &dyn EnvCompleter); 3] =
        [("stapes.bash", &complete::Bash), ("_stapes", &Zsh), ("stapes.fish", &Fish)];
    let mut scripts = Vec::new();
    for (file, shell) in shells {
        let mut out = Vec::new();
        shell
            .write_registration("COMPLETE", "stapes", "stapes", "stapes", &mut out)
            .map_err(|e| Error::from(e).context("Failed writing the completion script"))?;
        scripts.push((file.to_string(), out));
    }
    Ok(scripts)
}
