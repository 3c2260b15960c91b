//! `image generate-metadata`: questions on the terminal, or their answers from standard input.

use super::{Context, DONE, Outcome};
use crate::error::{Error, Result};
use crate::ops::image_metadata::{self, About};
use clap::{Args, ValueHint};
use std::path::PathBuf;

/// Generate a metadata tarball for an image
///
/// Asks what the image is and writes the metadata file of a split image,
/// which is imported together with a root file system or a disk.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes image generate-metadata metadata.tar.gz
    Ask for everything

printf 'Debian\\nbookworm\\n\\n\\n\\n' | stapes image generate-metadata metadata.tar.gz
    Take the answers from standard input, and the defaults for the last three"
)]
pub struct GenerateMetadata {
    /// File to write
    #[arg(value_name = "path", value_hint = ValueHint::FilePath)]
    pub path: PathBuf,
}

impl GenerateMetadata {
    /// Asks and writes.
    ///
    /// # Errors
    /// An answer is missing; see `ops::image_metadata`.
    pub fn run(self, cx: &Context) -> Outcome {
        let now = image_metadata::now();
        let mut about = About {
            os: ask(cx, "Operating system name (e.g. Debian)", "")?,
            release: ask(cx, "Release name (e.g. bookworm)", "")?,
            variant: ask(cx, "Variant name", "default")?,
            architecture: ask(cx, "Architecture name", std::env::consts::ARCH)?,
            ..About::default()
        };
        about.description = ask(cx, "Description", &about.described(now))?;
        image_metadata::generate(&self.path, &about, now)?;
        Ok(DONE)
    }
}

/// The answer to one question, the default for an empty line or the end; none (empty): it is asked again.
fn ask(cx: &Context, question: &str, default: &str) -> Result<String> {
    loop {
        match default {
            "" => cx.print(format_args!("{question}: "))?,
            _ => cx.print(format_args!("{question} [default={default}]: "))?,
        }
        let mut answer = String::new();
        let end = std::io::stdin().read_line(&mut answer)? == 0;
        if end {
            // The line that a terminal would have ended.
            cx.line("")?;
        }
        match answer.trim() {
            "" if !default.is_empty() => return Ok(default.to_string()),
            "" if end => return Err(Error::invalid(format!("No answer to \"{question}\""))),
            "" => cx.line("Invalid input, try again.\n")?,
            given => return Ok(given.to_string()),
        }
    }
}
