//! `edit` commands: a YAML text through the user's editor until it is accepted, or from standard input.
//!
//! Called by the `edit` handlers. The editor, and the program that an alias names, are the only ones that the command line itself
//! starts: they need our terminal.

use super::context::Context;
use crate::error::{Context as _, Error, Result};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Lets the user edit `help` (comment lines, may be empty) and `text`, and hands the result to `apply`; on an error of
/// `apply` the editor opens again with what was typed. When standard input is not a terminal its text goes to `apply`
/// once, the editor stays closed; an empty input is an empty document.
///
/// # Errors
/// No editor, the editor failed, or (without a terminal) what `apply` says.
pub fn edit(cx: &Context, help: &str, text: &str, apply: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    if !cx.tty.stdin {
        return apply(&cx.stdin_document()?.unwrap_or_default());
    }
    let mut content = if help.is_empty() { text.to_string() } else { format!("{help}\n\n{text}") };
    loop {
        content = through_editor(cx, &content)?;
        let Err(error) = apply(&content) else { return Ok(()) };
        let _ = writeln!(std::io::stderr(), "Config parsing error: {error}");
        cx.line("Press enter to open the editor again or ctrl+c to abort change")?;
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            return Err(error);
        }
    }
}

/// Opens the file `path` in the user's editor.
///
/// # Errors
/// No editor, or it failed.
pub fn file(cx: &Context, path: &Path) -> Result<()> {
    let editor = editor(cx)?;
    let mut words = editor.split_whitespace();
    let program = words
        .next()
        .ok_or_else(|| Error::invalid("No text editor found, please set the EDITOR environment variable"))?;
    run(program, words, path)
}

fn through_editor(cx: &Context, content: &str) -> Result<String> {
    let file = tempfile::Builder::new()
        .prefix("stapes-")
        .suffix(".yaml")
        .tempfile()
        .context("Failed creating a temporary file")?;
    // By path: editors replace the file rather than write into it.
    let path = file.into_temp_path();
    #[expect(clippy::disallowed_methods, reason = "no record: a temporary file the editor reads")]
    std::fs::write(&path, content).context("Failed writing the temporary file")?;
    self::file(cx, &path)?;
    std::fs::read_to_string(&path).context("Failed reading the edited file")
}

/// Puts a program of the user's (its path, then its arguments) in this one's place, with `env` over the environment. Comes back
/// only if it cannot be started.
pub fn become_program(words: &[OsString], env: &[(&str, &str)]) -> Error {
    let program = words.first().map_or(OsStr::new(""), OsString::as_os_str);
    #[expect(clippy::disallowed_methods, reason = "the user's own program, on the user's terminal")]
    let mut command = std::process::Command::new(program);
    command.args(words.iter().skip(1)).envs(env.iter().copied());
    Error::from(command.exec())
}

#[expect(clippy::disallowed_methods, reason = "the user's own editor, on the user's terminal")]
fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a str>, path: &Path) -> Result<()> {
    let status = std::process::Command::new(program)
        .args(arguments)
        .arg(path)
        .status()
        .with_context(|| format!("Failed starting the editor \"{program}\""))?;
    if status.success() { Ok(()) } else { Err(Error::failed(format!("The editor \"{program}\" failed: {status}"))) }
}

fn editor(cx: &Context) -> Result<String> {
    if let Some(editor) = &cx.env.editor {
        return Ok(editor.clone());
    }
    let folders: Vec<_> = std::env::split_paths(&cx.env.path).collect();
    ["editor", "vi", "emacs", "nano"]
        .into_iter()
        .find(|name| folders.iter().any(|folder| is_program(&folder.join(name))))
        .map(String::from)
        .ok_or_else(|| Error::invalid("No text editor found, please set the EDITOR environment variable"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
