//! `image import`: files or a folder become an image.

use super::progress::Progress;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::AliasName;
use crate::base::size::format_si;
use crate::base::url::Url;
use crate::error::{Error, Result};
use crate::host::http::{Client, Trust};
use crate::image;
use crate::image::import::{self, Input};
use crate::ops::image_import::{self, Request};
use crate::ops::image_oci::{self, InLayout};
use crate::ops::image_url;
use clap::Args;
use std::path::Path;
use std::time::Instant;

/// Import images into the image store
///
/// Directory import must be performed as root.
///
/// A folder or tar archive in OCI layout is given as oci:PATH or
/// oci:PATH:TAG; such a folder is recognised without the prefix too.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes image import rootfs.tar.xz --alias mine
    Import a unified image

stapes image import meta.tar.xz root.squashfs os=debian
    Import a split image and set a property

stapes image import meta.tar.xz disk.qcow2 --alias machine
    Import an image of a virtual machine

stapes image import https://example.org/image --alias theirs
    Import the unified image that a server names there

stapes image import oci:./nginx.tar:latest --alias nginx
    Import an image of an OCI layout"
)]
pub struct Import {
    /// Image file or folder, file of the root file system or disk, properties
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
    /// A bad pair, a URL without https, or a remote that is not this host.
    pub fn parse(words: &[String]) -> Result<Self> {
        let (image, rest) = words
            .split_first()
            .ok_or_else(|| Error::invalid("not enough arguments; expected a value for “<tarball>”"))?;
        if image.starts_with("http://") {
            return Err(Error::invalid("Only https:// is supported for remote image import"));
        }
        let is_file = |word: &String| !word.ends_with(':') && !word.contains('=');
        let (rootfs, rest) = match rest {
            [first, rest @ ..] if is_file(first) => (Some(first.clone()), rest),
            _ => (None, rest),
        };
        let properties = kv::skip_remote(rest)?.iter().map(|word| kv::pair(word)).collect::<Result<_>>()?;
        Ok(Self { image: image.clone(), rootfs, properties })
    }

    fn is_url(&self) -> bool {
        self.image.starts_with("https://")
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
        let store = cx.store()?;
        let (client, trust) = (Client::new(cx.http()), Trust::default());
        let in_layout = InLayout::parse(&words.image).filter(|_| words.rootfs.is_none());
        let source = match &words.rootfs {
            Some(_) if words.is_url() => {
                return Err(Error::invalid("An image from a URL is one file").into());
            }
            None if words.is_url() => {
                let url = Url::parse(&words.image)?;
                cx.may_ask(&store, &cx.project(&store)?, &url)?;
                import::Source::Unified(image_url::open(&store, &client, &trust, &url)?)
            }
            Some(rootfs) => {
                import::Source::Split { metadata: Input::open(image)?, rootfs: Input::open(rootfs.as_ref())? }
            }
            None if in_layout.is_some() => import::Source::Directory(image),
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
        let progress = cx.progress("Transferring image: %s");
        let mut report = reporter(&progress);
        let fingerprint = match &in_layout {
            Some(what) => image_oci::import(&store, what, request, &mut report)?,
            None => image_import::import(&store, request, &mut report)?,
        };
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
        assert!(show(&["a", "b", "c"]).is_err() && show(&["http://x/y"]).is_err());
        assert_eq!(show(&["https://x/y", "k=v"]).unwrap(), "https://x/y None 1");
    }
}
