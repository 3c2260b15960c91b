//! Help texts, laid out as Incus lays them out. All words come from clap's command tree and the grammar table.

use super::usage;
use clap::{Arg, ArgAction, Command};
use std::fmt::Write;

/// The help of the command at `path` below `root`, which bears the program's name. `color`: headings for a terminal.
pub fn render(root: &Command, path: &[String], color: bool) -> String {
    let mut command = root;
    for name in path {
        command = command.find_subcommand(name).unwrap_or(command);
    }
    let whole = std::iter::once(root.get_name()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let mut page = Page { out: String::new(), color };
    page.heading("Description:");
    page.indented(&description(command));
    page.out.push('\n');
    page.heading("Usage:");
    if let Some(grammar) = usage::grammar(path) {
        let grammar = if grammar.is_empty() { String::new() } else { format!(" {grammar}") };
        let flags = if grammar.contains("[flags]") { "" } else { " [flags]" };
        let _ = writeln!(page.out, "  {whole}{grammar}{flags}");
    } else {
        let _ = writeln!(page.out, "  {whole} [command]");
    }
    page.aliases(command);
    page.examples(command);
    page.commands(command);
    page.flags(command, path.is_empty(), root);
    if command.has_subcommands() {
        let _ = writeln!(page.out, "\nUse \"{whole} [<command>] --help\" for more information about a command.");
    }
    page.out
}

/// The long description, else the short one.
pub fn description(command: &Command) -> String {
    command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
}

struct Page {
    out: String,
    color: bool,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let _ = match self.color {
            true => writeln!(self.out, "\x1b[96;1;4m{text}\x1b[0m"),
            false => writeln!(self.out, "{text}"),
        };
    }

    fn indented(&mut self, text: &str) {
        for line in text.trim_end().lines() {
            let _ = if line.is_empty() { writeln!(self.out) } else { writeln!(self.out, "  {line}") };
        }
    }

    fn aliases(&mut self, command: &Command) {
        let aliases: Vec<&str> = command.get_visible_aliases().collect();
        if !aliases.is_empty() {
            self.out.push('\n');
            self.heading("Aliases:");
            let _ = writeln!(self.out, "  {}, {}", command.get_name(), aliases.join(", "));
        }
    }

    fn examples(&mut self, command: &Command) {
        if let Some(examples) = command.get_after_help() {
            self.out.push('\n');
            self.heading("Examples:");
            self.indented(&examples.to_string());
        }
    }

    fn commands(&mut self, command: &Command) {
        let shown: Vec<&Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
        if shown.is_empty() {
            return;
        }
        self.out.push('\n');
        self.heading("Available Commands:");
        let mut rows: Vec<(&str, String)> =
            shown.iter().map(|c| (c.get_name(), c.get_about().map(ToString::to_string).unwrap_or_default())).collect();
        rows.sort();
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(11);
        for (name, about) in rows {
            let _ = writeln!(self.out, "  {name:width$} {about}");
        }
    }

    fn flags(&mut self, command: &Command, is_root: bool, root: &Command) {
        if !is_root {
            self.flag_block("Flags:", command);
        }
        self.flag_block(if is_root { "Flags:" } else { "Global Flags:" }, root);
    }

    fn flag_block(&mut self, heading: &str, command: &Command) {
        let mut rows: Vec<(String, String)> = command
            .get_arguments()
            .filter(|a| !a.is_positional() && !a.is_hide_set())
            .map(|a| (flag_name(a), flag_text(a)))
            .collect();
        if rows.is_empty() {
            return;
        }
        rows.sort_by(|a, b| a.0[6..].cmp(&b.0[6..]));
        self.out.push('\n');
        self.heading(heading);
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, text) in rows {
            let _ = writeln!(self.out, "{name:width$}   {text}");
        }
    }
}

/// `  -c, --columns`, `      --console[="console"]`; the name proper begins at byte 6.
fn flag_name(arg: &Arg) -> String {
    let short = arg.get_short().map_or_else(|| "    ".to_string(), |s| format!("-{s}, "));
    let value = match arg.get_action() {
        ArgAction::Set if arg.is_require_equals_set() => {
            let missing = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
            format!("[={:?}]", missing.unwrap_or_default())
        }
        _ => String::new(),
    };
    format!("  {short}--{}{value}", arg.get_long().unwrap_or_default())
}

/// The description of an option with its default.
pub fn flag_text(arg: &Arg) -> String {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let takes_value = matches!(arg.get_action(), ArgAction::Set);
    let default = arg.get_default_values().first().and_then(|v| v.to_str()).filter(|v| takes_value && !v.is_empty());
    match default {
        Some(number) if number.parse::<i64>().is_ok() => format!("{text} (default {number})"),
        Some(word) => format!("{text} (default {word:?})"),
        None => text,
    }
}
