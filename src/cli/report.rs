//! How an error reaches the user: `Error: <message: cause: cause>` on standard error, then errors of the teardown, then a
//! hint; and the exit code. The only place that prints errors.

use crate::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Prints `error` and gives the exit code. A reader that went away (`stapes list | head`) ends the command without a word,
/// as a signal would have.
pub fn report(error: &anyhow::Error, color: bool) -> ExitCode {
    if broken_pipe(error) {
        return ExitCode::from(128 + 13);
    }
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text(error, color).as_bytes());
    ExitCode::FAILURE
}

/// What [`report`] prints.
pub fn text(error: &anyhow::Error, color: bool) -> String {
    let prefix = prefix("Error:", "31", color);
    let mut out = String::new();
    match error.downcast_ref::<Error>() {
        Some(ours) => {
            let _ = writeln!(out, "{prefix} {ours}");
            for other in ours.others() {
                let _ = writeln!(out, "{other}");
            }
            for hint in std::iter::once(ours).chain(ours.others()).filter_map(Error::hint_text) {
                let _ = writeln!(out, "{hint}");
            }
        }
        None => {
            let _ = writeln!(out, "{prefix} {error:#}");
        }
    }
    out
}

/// `word`, bold and in the SGR colour `code` if `color`.
pub fn prefix(word: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code};1m{word}\x1b[0m") } else { word.to_string() }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let errno = error.downcast_ref::<Error>().and_then(Error::errno);
    let io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    errno == Some(libc::EPIPE) || io == Some(std::io::ErrorKind::BrokenPipe)
}

/// The errors of a command on several instances: each `name: error: …` on standard error, an empty line, and one error
/// `Some instances failed to <verb>`. One failure of one instance stays itself; none is fine. `count`: how many instances
/// were asked for.
///
/// # Errors
/// Any of them failed.
pub fn batch(verb: &str, count: usize, mut failed: Vec<(String, Error)>) -> Result<(), Error> {
    if count == 1
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    if failed.is_empty() {
        return Ok(());
    }
    let _ = std::io::stderr().write_all(batch_text(&failed).as_bytes());
    Err(Error::failed(format!("Some instances failed to {verb}")))
}

fn batch_text(failed: &[(String, Error)]) -> String {
    let mut out = String::new();
    for (name, error) in failed {
        let mut message = format!("error: {error}");
        for more in error.others().iter().map(ToString::to_string).chain(error.hint_text().map(String::from)) {
            let _ = write!(message, "\n{more}");
        }
        for line in message.lines() {
            let _ = writeln!(out, "{name}: {line}");
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_then_others_then_hints() {
        let error = Error::failed("Cause").context("Failed").and(Error::busy("Also")).hint("Try this");
        assert_eq!(text(&error.into(), false), "Error: Failed: Cause\nAlso\nTry this\n");
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(text(&error, true), "\x1b[31;1mError:\x1b[0m outer: inner\n");
    }

    #[test]
    fn broken_pipes_are_recognised_below_context() {
        let error = Error::from(std::io::Error::from_raw_os_error(libc::EPIPE)).context("Failed writing");
        assert!(broken_pipe(&error.into()));
        assert!(!broken_pipe(&Error::failed("x").into()));
    }

    #[test]
    fn batches() {
        assert!(batch("start", 2, Vec::new()).is_ok());
        let one = batch("start", 1, vec![("a".into(), Error::busy("Busy"))]);
        assert_eq!(one.unwrap_err().to_string(), "Busy");
        let failed = vec![("a".to_string(), Error::busy("Busy").hint("Try")), ("b".to_string(), Error::failed("No"))];
        assert_eq!(batch_text(&failed), "a: error: Busy\na: Try\nb: error: No\n\n");
        assert_eq!(batch("stop", 2, failed).unwrap_err().to_string(), "Some instances failed to stop");
    }
}
