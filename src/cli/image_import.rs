//! `image import`: files or a folder become an image.

use super::progress::Progress;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::AliasName;
use crate::base::size::format_si;
use crate::error::{Error, Result};
use crate::image;
use crate::image::import::{self, Input};
use crate::ops::image_import::{self, Request};
use clap::Args;
use std::path::Path;
use std::time::Instant;

/// Import images into the image store
///
/// Directory import must be performed as root.
#[derive(Debug, Args)]
#[command(after_help = "stapes image import rootfs.tar.xz --alias mine
    Import a unified image

stapes image import meta.tar.xz root.squashfs os=debian
    Import a split image and set a property")]
pub struct Import {
    /// Image file or folder, file of the root file system, properties
    #[arg(value_name = "file", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub words: Vec<String>,
    /// New aliases to add to the image (may be passed multiple times)
    #[arg(long, value_name = "alias")]
    pub alias: Vec<String>,
    /// Make image public
    #[arg(long)]
    pub public: bool,
    /// If the image alias already exists, delete and create a new one
    #[arg(long)]
    pub reuse: bool,
}

/// What is to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Unified image, metadata of a split one, or folder.
    pub image: String,
    /// Root file system of a split image.
    pub rootfs: Option<String>,
    /// Properties to set.
    pub properties: kv::Pairs,
}

impl Source {
    /// Sorts the words: the image, then perhaps the root file system, perhaps `remote:`, then properties.
    ///
    /// # Errors
    /// A bad pair, a URL, or a remote that is not this host.
    pub fn parse(words: &[String]) -> Result<Self> {
        let (image, rest) = words
            .split_first()
            .ok_or_else(|| Error::invalid("not enough arguments; expected a value for “<tarball>”"))?;
        if image.starts_with("http://") {
            return Err(Error::invalid("Only https:// is supported for remote image import"));
        }
        if image.starts_with("https://") {
            return Err(Error::unsupported("Importing from a URL isn't supported yet"));
        }
        let is_file = |word: &String| !word.ends_with(':') && !word.contains('=');
        let (rootfs, rest) = match rest {
            [first, rest @ ..] if is_file(first) => (Some(first.clone()), rest),
            _ => (None, rest),
        };
        let properties = kv::skip_remote(rest)?.iter().map(|word| kv::pair(word)).collect::<Result<_>>()?;
        Ok(Self { image: image.clone(), rootfs, properties })
    }
}

impl Import {
    /// Imports the image.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let words = Source::parse(&self.words)?;
        let aliases = self.alias.iter().map(|a| AliasName::parse(a)).collect::<Result<_>>()?;
        let image = Path::new(&words.image);
        let source = match &words.rootfs {
            Some(rootfs) => {
                import::Source::Split { metadata: Input::open(image)?, rootfs: Input::open(rootfs.as_ref())? }
            }
            None if image.is_dir() => import::Source::Directory(image),
            None => import::Source::Unified(Input::open(image)?),
        };
        let request = Request {
            source,
            aliases,
            reuse: self.reuse,
            public: self.public,
            properties: words.properties.into_iter().collect(),
        };
        let store = cx.store()?;
        let progress = cx.progress("Transferring image: %s");
        let fingerprint = image_import::import(&store, request, &mut reporter(&progress))?;
        progress.clear();
        cx.notice(format_args!("Image imported with fingerprint: {fingerprint}"))?;
        Ok(DONE)
    }
}

/// Shows what `image` tells: percents and speed as Incus does.
pub(super) fn reporter(progress: &Progress) -> impl FnMut(image::Progress<'_>) -> Result<()> {
    let mut begun = Instant::now();
    let mut last = String::new();
    move |told| {
        let text = match told {
            image::Progress::Step(text) | image::Progress::Line(text) => {
                begun = Instant::now();
                text.to_string()
            }
            image::Progress::Bytes(done, total) => {
                let speed = format!("({}/s)", format_si(done.saturating_mul(1000) / per_mille(begun)));
                match total.filter(|t| *t > 0) {
                    Some(total) => format!("{}% {speed}", done.saturating_mul(100) / total),
                    None => format!("{} {speed}", format_si(done)),
                }
            }
        };
        if text != last {
            progress.update(&text);
            last = text;
        }
        Ok(())
    }
}

/// Milliseconds since `begun`, at least one.
fn per_mille(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let show = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            Source::parse(&words).map(|s| format!("{} {:?} {}", s.image, s.rootfs, s.properties.len()))
        };
        assert_eq!(show(&["a.tar"]).unwrap(), "a.tar None 0");
        assert_eq!(show(&["a", "b", "local:", "os=x", "k=v"]).unwrap(), "a Some(\"b\") 2");
        assert_eq!(show(&["a", "os=x"]).unwrap(), "a None 1");
        assert!(show(&["a", "b", "c"]).is_err() && show(&["https://x/y"]).is_err());
    }
}
