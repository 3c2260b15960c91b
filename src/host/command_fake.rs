//! The stand-in for outside programs in tests: answers from a script, remembers what was asked.

use super::{Cmd, OnLine, Output, Program, Runner, Stdin, Stream};
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Program name.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The bytes given as input; empty for a file.
    pub stdin: Vec<u8>,
}

/// What a program "does".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

type Script = Box<dyn Fn(&Call) -> Answer>;

/// A runner that runs nothing.
pub struct Fake {
    installed: Vec<&'static str>,
    script: Script,
    calls: RefCell<Vec<Call>>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("installed", &self.installed).field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Fake {
    /// Has the `installed` programs, each of which does what `script` says.
    pub fn new(installed: &[&'static str], script: impl Fn(&Call) -> Answer + 'static) -> Self {
        Self { installed: installed.to_vec(), script: Box::new(script), calls: RefCell::default() }
    }

    /// What has been run so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }
}

impl Runner for Fake {
    fn find(&self, program: Program) -> Result<PathBuf> {
        match self.installed.contains(&program.name) {
            true => Ok(Path::new("/usr/bin").join(program.name)),
            false => Err(Error::unsupported(format!("The program \"{}\" is missing", program.name))
                .hint(format!("install the package \"{}\"", program.package))),
        }
    }

    fn run_with(&self, cmd: Cmd, on_line: Option<OnLine<'_>>) -> Result<Output> {
        self.find(cmd.program)?;
        let stdin = if let Stdin::Bytes(bytes) = cmd.stdin { bytes } else { Vec::new() };
        let call = Call { program: cmd.program.name, args: cmd.args, stdin };
        let answer = (self.script)(&call);
        self.calls.borrow_mut().push(call);
        let mut stdout = answer.stdout;
        if let Some(on_line) = on_line {
            for (stream, text) in [(Stream::Out, &stdout), (Stream::Err, &answer.stderr)] {
                String::from_utf8_lossy(text).lines().try_for_each(|line| on_line(stream, line))?;
            }
            stdout = Vec::new();
        }
        Ok(Output { status: ExitStatus::from_raw(answer.code << 8), stdout, stderr: answer.stderr })
    }
}
