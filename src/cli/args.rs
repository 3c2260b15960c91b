//! The command line before clap sees it, read by the rules of Incus's parser (pflag), which clap does not have all of:
//! a value option takes the next word whatever it looks like, `--flag=false` works, `-h` and `--version` win wherever they
//! stand, and the errors have Incus's words.
//!
//! [`prepare`] walks the words along clap's own command tree, so options are declared once, and gives back a normal form:
//! every option as `--name` or `--name=value`. Words after `--` are passed through.

use crate::error::{Error, Result};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// What the words ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run a command.
    Run(Prepared),
    /// Show the help of the command at this path (empty: the program).
    Help(Vec<String>),
    /// Show the version.
    Version,
}

/// A command line in normal form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// For clap, the program's name first.
    pub words: Vec<OsString>,
    /// Names of the command and its parents, the program's own left out.
    pub path: Vec<String>,
    /// How many words are neither command nor option.
    pub positionals: usize,
}

struct Walk<'a> {
    root: &'a Command,
    /// The command reached so far.
    at: &'a Command,
    rest: std::vec::IntoIter<OsString>,
    /// Options of the command that is yet to come, each with the next word.
    early: Vec<OsString>,
    done: Prepared,
    help: bool,
    version: bool,
}

/// Commands of Incus that have no meaning here, and why.
const ABSENT: [(&[&str], &str); 8] = [
    (&["admin", "cluster"], "There is no cluster: every host is one of its own"),
    (&["admin", "sql"], "There is no database: the state is in files"),
    (&["admin", "update-certificate"], "There is no server that would have a certificate"),
    (&["cluster"], "There is no cluster: every host is one of its own"),
    (
        &["config", "trust"],
        "There is no server whose clients would be trusted: who may use the state folder may do all",
    ),
    (&["storage", "bucket"], "Storage buckets are not supported by this version"),
    (&["storage", "volume", "bitmap"], "Bitmaps are of virtual machines, which are not supported by this version"),
    (&["webui"], "There is no server that would have a web interface"),
];

/// Reads `words` (the program's name first).
///
/// # Errors
/// An unknown command or option, an option without its value, a bad boolean.
pub fn prepare(root: &Command, words: Vec<OsString>) -> Result<Request> {
    let mut rest = words.into_iter();
    let mut done = Prepared::default();
    done.words.extend(rest.next());
    let mut walk = Walk { root, at: root, rest, early: Vec::new(), done, help: false, version: false };
    while let Some(word) = walk.rest.next() {
        if word == "--" {
            walk.done.words.push(word);
            walk.done.positionals += walk.rest.len();
            walk.done.words.extend(walk.rest.by_ref());
            break;
        }
        walk.word(word)?;
    }
    if let Some(word) = walk.early.first() {
        return Err(Error::invalid(format!("unknown flag: {}", word.to_string_lossy())));
    }
    Ok(match walk {
        Walk { help: true, done, .. } => Request::Help(done.path),
        Walk { version: true, .. } => Request::Version,
        Walk { done, .. } => Request::Run(done),
    })
}

impl<'a> Walk<'a> {
    fn word(&mut self, word: OsString) -> Result<()> {
        match word.to_str() {
            Some(text) if text.len() > 2 && text.starts_with("--") => self.long(&text[2..]),
            Some(text) if text.len() > 1 && text.starts_with('-') => self.shorts(&text[1..], text),
            Some(text) if self.done.positionals == 0 && self.at.has_subcommands() => self.command(text),
            _ => {
                self.done.positionals += 1;
                self.done.words.push(word);
                Ok(())
            }
        }
    }

    fn command(&mut self, name: &str) -> Result<()> {
        let found = self.at.get_subcommands().find(|c| c.get_name() == name || c.get_all_aliases().any(|a| a == name));
        let Some(command) = found else { return Err(self.unknown(name)) };
        self.at = command;
        self.done.path.push(command.get_name().to_string());
        self.done.words.push(command.get_name().into());
        if !command.has_subcommands() && !self.early.is_empty() {
            let rest: Vec<OsString> = self.early.drain(..).chain(self.rest.by_ref()).collect();
            self.rest = rest.into_iter();
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let mut path = vec![self.root.get_name()];
        path.extend(self.done.path.iter().map(String::as_str));
        if let Some((_, why)) = ABSENT.iter().find(|(words, _)| path[1..].iter().chain([&name]).eq(words.iter())) {
            return Error::unsupported(*why);
        }
        let near: Vec<String> = self
            .at
            .get_subcommands()
            .filter(|c| !c.is_hide_set() && is_near(name, c.get_name()))
            .map(|c| format!("\t{}\n", c.get_name()))
            .collect();
        let hint = if near.is_empty() { String::new() } else { format!("\n\nDid you mean this?\n{}", near.concat()) };
        Error::invalid(format!("unknown command {name:?} for {:?}{hint}", path.join(" ")))
    }

    fn long(&mut self, text: &str) -> Result<()> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let Some(arg) = self.find(|a| a.get_long() == Some(name)) else {
            if self.done.positionals > 0 || !self.at.has_subcommands() {
                return Err(Error::invalid(format!("unknown flag: --{name}")));
            }
            self.early.push(format!("--{text}").into());
            if value.is_none() {
                self.early.extend(self.rest.next());
            }
            return Ok(());
        };
        if is_switch(arg) {
            return self.switch(arg, value);
        }
        if let Some(value) = value {
            self.done.words.push(format!("--{name}={value}").into());
            return Ok(());
        }
        if arg.is_require_equals_set() {
            self.done.words.push(format!("--{name}").into());
            return Ok(());
        }
        let value = self.rest.next().ok_or_else(|| Error::invalid(format!("flag needs an argument: --{name}")))?;
        self.push_value(name, &value);
        Ok(())
    }

    /// A group of short options; `whole` is the word for the message.
    fn shorts(&mut self, group: &str, whole: &str) -> Result<()> {
        for (at, letter) in group.char_indices() {
            let Some(arg) = self.find(|a| a.get_short() == Some(letter)) else {
                return Err(Error::invalid(format!("unknown shorthand flag: '{letter}' in {whole}")));
            };
            let rest = &group[at + letter.len_utf8()..];
            if is_switch(arg) {
                if let Some(value) = rest.strip_prefix('=') {
                    return self.switch(arg, Some(value));
                }
                self.switch(arg, None)?;
                continue;
            }
            let name = long_name(arg);
            let value = match rest {
                "" if arg.is_require_equals_set() => {
                    self.done.words.push(format!("--{name}").into());
                    return Ok(());
                }
                "" => self
                    .rest
                    .next()
                    .ok_or_else(|| Error::invalid(format!("flag needs an argument: '{letter}' in {whole}")))?,
                _ => rest.strip_prefix('=').unwrap_or(rest).into(),
            };
            self.push_value(&name, &value);
            return Ok(());
        }
        Ok(())
    }

    fn switch(&mut self, arg: &Arg, value: Option<&str>) -> Result<()> {
        let name = long_name(arg);
        let on = match value {
            None | Some("1" | "t" | "T" | "TRUE" | "true" | "True") => true,
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => false,
            Some(other) => {
                let short = arg.get_short().map(|s| format!("-{s}, ")).unwrap_or_default();
                let text = format!(
                    "invalid argument {other:?} for \"{short}--{name}\" flag: strconv.ParseBool: parsing {other:?}: invalid syntax"
                );
                return Err(Error::invalid(text));
            }
        };
        match name.as_str() {
            "help" => self.help |= on,
            "version" => self.version |= on,
            _ if on => self.done.words.push(format!("--{name}").into()),
            _ => {}
        }
        Ok(())
    }

    fn push_value(&mut self, name: &str, value: &OsString) {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        self.done.words.push(word);
    }

    /// An option of the command reached so far, or of the program.
    fn find(&self, wanted: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
        self.at.get_arguments().chain(self.root.get_arguments()).find(|a| !a.is_positional() && wanted(a))
    }
}

fn is_switch(arg: &Arg) -> bool {
    !matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn long_name(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().to_string()
}

/// At most two edits apart, or the beginning of it: worth a suggestion.
fn is_near(typed: &str, name: &str) -> bool {
    name.starts_with(&typed.to_lowercase()) || distance(&typed.to_lowercase(), name) <= 2
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(line: &str) -> String {
        let root = crate::cli::app::command("stapes");
        let words =
            std::iter::once("stapes").chain(line.split(' ').filter(|w| !w.is_empty())).map(OsString::from).collect();
        match prepare(&root, words) {
            Ok(Request::Run(p)) => p.words[1..].iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" "),
            Ok(Request::Help(path)) => format!("help {}", path.join("/")),
            Ok(Request::Version) => "version".into(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn options_anywhere_and_in_every_form() {
        assert_eq!(walk("stop c1 -f --timeout -1"), "stop c1 --force --timeout=-1");
        assert_eq!(walk("--project p list -f csv -c=ns"), "--project=p list --format=csv --columns=ns");
        assert_eq!(walk("launch i c -cuser.a=b -ep x"), "launch i c --config=user.a=b --ephemeral --profile=x");
        assert_eq!(walk("stop --force=false --all=true"), "stop --all");
        assert_eq!(walk("launch i --console c"), "launch i --console c");
        assert_eq!(walk("launch i --console=vga c"), "launch i --console=vga c");
        assert_eq!(walk("ls"), "list");
        assert_eq!(walk("--target-project p --storage=x copy a b"), "copy --target-project=p --storage=x a b");
        assert_eq!(walk("unfreeze c"), "resume c");
        assert_eq!(walk("config device rm c d"), "config device remove c d");
        assert_eq!(walk("exec c1 -T -- sh -c -- x"), "exec c1 --force-noninteractive -- sh -c -- x");
    }

    #[test]
    fn help_and_version_win() {
        assert_eq!(walk("config device add -h x"), "help config/device/add");
        assert_eq!(walk("--help"), "help ");
        assert_eq!(walk("list --version"), "version");
        assert_eq!(walk("exec c -- ls --help"), "exec c -- ls --help");
    }

    #[test]
    fn errors_in_the_words_of_incus() {
        assert_eq!(walk("exec c1 ls -l"), "unknown shorthand flag: 'l' in -l");
        assert_eq!(walk("list --foo=1"), "unknown flag: --foo");
        assert_eq!(walk("list --project"), "flag needs an argument: --project");
        assert_eq!(walk("list -f"), "flag needs an argument: 'f' in -f");
        assert_eq!(walk("config foo"), "unknown command \"foo\" for \"stapes config\"");
        assert!(walk("config trust").starts_with("There is no server") && walk("cluster").contains("no cluster"));
        assert_eq!(walk("lunch"), "unknown command \"lunch\" for \"stapes\"\n\nDid you mean this?\n\tlaunch\n");
        assert!(walk("stop --force=x c").starts_with("invalid argument \"x\" for \"-f, --force\" flag"));
    }
}
