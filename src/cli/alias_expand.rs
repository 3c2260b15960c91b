//! What the user's aliases make of a command line, before anything else looks at it.
//!
//! Called by [`super::main`]. The alias of the most words counts, behind the global options that stand before the command.
//! What comes out is not expanded again, and neither is what a program behind an alias calls.

use super::env::Env;
use super::{app, edit};
use crate::error::{Context, Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What Incus has by default: commands here.
pub const BUILT_IN: [(&str, &str); 1] = [("shell", "exec @ARGS@ -- su -l")];

/// All arguments, in an alias's target.
const ALL: &str = "@ARGS@";

/// The words (the program's name first) with an alias in front replaced by its target. The target that is a program takes
/// this process's place.
///
/// # Errors
/// The configuration cannot be read, too few arguments, a program that cannot be started.
pub fn expand(env: &Env, words: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(at) = app::verb_at(&words).filter(|_| !env.in_alias) else { return Ok(words) };
    let aliases = env.folders().aliases().context("Failed to load configuration")?;
    let Some((alias, target)) = find(&aliases, &words[at..]) else { return Ok(words) };
    let target = shell_words::split(target).unwrap_or_else(|_| target.split(' ').map(String::from).collect());
    let arguments = &words[at + alias.split(' ').count()..];
    let expanded = insert(alias, &target, arguments)?;
    if target.first().is_some_and(|program| program.starts_with('/')) {
        return Err(edit::become_program(&expanded, &[("STAPES_ALIASES", "1"), ("INCUS_ALIASES", "1")])
            .context("Processing aliases failed"));
    }
    Ok(words[..at].iter().cloned().chain(expanded).collect())
}

/// The alias of the most words that `words` begin with, and its target.
fn find<'a>(aliases: &'a BTreeMap<String, String>, words: &[OsString]) -> Option<(&'a str, &'a str)> {
    let begins = |alias: &str| {
        let mut words = words.iter();
        alias.split(' ').all(|word| words.next().is_some_and(|w| w == word))
    };
    let fitting = aliases.iter().filter(|(alias, _)| begins(alias));
    fitting.max_by_key(|(alias, _)| alias.split(' ').count()).map(|(alias, target)| (alias.as_str(), target.as_str()))
}

/// Puts the arguments where the target wants them; those that it does not name one by one go to `@ARGS@`, or to the end.
fn insert(alias: &str, target: &[String], arguments: &[OsString]) -> Result<Vec<OsString>> {
    let numbers: Vec<usize> = target.iter().flat_map(|word| pieces(word)).filter_map(|(_, n)| n).collect();
    if numbers.iter().any(|n| *n == 0 || *n > arguments.len()) {
        let text = format!("Found alias {alias:?} references an argument outside the given number");
        return Err(Error::invalid(text));
    }
    let rest: Vec<OsString> =
        arguments.iter().enumerate().filter(|(i, _)| !numbers.contains(&(i + 1))).map(|(_, a)| a.clone()).collect();
    let mut out = Vec::new();
    for word in target {
        if word == ALL {
            out.extend(rest.iter().cloned());
            continue;
        }
        let mut whole = Vec::new();
        for (text, number) in pieces(word) {
            whole.extend_from_slice(text.as_bytes());
            let argument = number.and_then(|n| arguments.get(n - 1)).map(|a| a.as_bytes());
            whole.extend_from_slice(argument.unwrap_or_default());
        }
        out.push(OsString::from_vec(whole));
    }
    if !target.iter().any(|word| word == ALL) {
        out.extend(rest);
    }
    Ok(out)
}

/// A word cut at its `@ARG1@` and their like: each piece with the number that follows it.
fn pieces(word: &str) -> Vec<(&str, Option<usize>)> {
    let (mut pieces, mut text, mut from) = (Vec::new(), word, 0);
    while let Some(start) = text[from..].find("@ARG").map(|at| from + at) {
        let behind = &text[start + "@ARG".len()..];
        let number = behind.split_once('@').filter(|(digits, _)| digits.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|(digits, rest)| Some((digits.parse().ok()?, rest))) {
            Some((number, rest)) => {
                pieces.push((&text[..start], Some(number)));
                (text, from) = (rest, 0);
            }
            None => from = start + 1,
        }
    }
    pieces.push((text, None));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect()
    }

    fn expanded(target: &str, arguments: &str) -> String {
        match insert("a", &shell_words::split(target).unwrap(), &words(arguments)) {
            Ok(words) => words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join("|"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn arguments_go_where_they_belong() {
        assert_eq!(expanded("list -c 'n s'", "x -f csv"), "list|-c|n s|x|-f|csv");
        assert_eq!(expanded("exec @ARGS@ -- su -l", "c1 -T"), "exec|c1|-T|--|su|-l");
        assert_eq!(expanded("exec @ARG1@ -- cat @ARG2@", "c1 /f x"), "exec|c1|--|cat|/f|x");
        assert_eq!(expanded("move @ARG2@ x@ARG1@@ARG2@y @ARGS@", "a b c"), "move|b|xaby|c");
        assert_eq!(expanded("a @ARG@ @ARGx@ x@ARGS@ @ARG1", "b"), "a|@ARG@|@ARGx@|x@ARGS@|@ARG1|b");
        for (target, arguments) in [("exec @ARG2@", "c1"), ("a @ARG0@", "c1"), ("a @ARG1@", "")] {
            let refused = "Found alias \"a\" references an argument outside the given number";
            assert_eq!(expanded(target, arguments), refused, "{target}");
        }
    }

    #[test]
    fn the_longest_alias_counts() {
        let aliases: BTreeMap<String, String> =
            ["config", "config show", "i"].map(|a| (a.to_string(), format!("<{a}>"))).into();
        let target = |line: &str| find(&aliases, &words(line)).map(|(_, target)| target);
        assert_eq!(target("config show c1"), Some("<config show>"));
        assert_eq!(target("config"), Some("<config>"));
        assert_eq!((target("ii"), target("list i")), (None, None));
    }
}
