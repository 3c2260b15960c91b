//! `create` and `launch`: an instance from an image.

use super::complete;
use super::image_import::reporter;
use super::kv::{self, Object};
use super::{Context, DONE, Outcome, console, refuse_option, refuse_target};
use crate::base::names::{Fingerprint, InstanceName, NetworkName, PoolName, ProjectName};
use crate::base::yaml;
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::type_limits;
use crate::model::view::InstancePut;
use crate::ops::create::{self, Request};
use crate::ops::image_remote::Place;
use crate::ops::{image, image_oci};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::collections::BTreeMap;

/// Create instances from images
#[derive(Debug, Args)]
#[command(after_help = "stapes create bootstrap:debian/12 u1
    Create the instance u1

stapes create bootstrap:debian/12 u1 < config.yaml
    Create the instance with configuration from config.yaml

stapes create bootstrap:debian/12 u2 -d root,size=50GiB
    Create the instance u2, overriding the size of its root disk")]
pub struct Create {
    #[command(flatten)]
    pub args: CreateArgs,
}

/// Create and start instances from images
#[derive(Debug, Args)]
#[command(after_help = "stapes launch images:debian/12 c1
    Create and start a container named \"c1\"

stapes launch bootstrap:debian/12 c2 < config.yaml
    Create and start a container named \"c2\" with configuration from config.yaml

stapes launch mine c3 -c limits.memory=1GiB -e
    Create and start a container from the local image \"mine\" that is gone once it stops")]
pub struct Launch {
    #[command(flatten)]
    pub args: CreateArgs,
    /// Immediately attach to the console
    #[arg(long, require_equals = true, num_args = 0..=1, default_missing_value = "console", value_name = "console")]
    pub console: Option<String>,
}

// No doc comment: it would replace the description of the commands that take these.
#[derive(Debug, Clone, Default, Args)]
pub struct CreateArgs {
    /// Image to use, and name of the new instance
    #[arg(value_name = "image", num_args = 0..=2, required_unless_present = "empty", add = ArgValueCompleter::new(complete::images))]
    pub words: Vec<String>,
    #[command(flatten)]
    pub options: CreateOptions,
    /// Create an empty instance
    #[arg(long)]
    pub empty: bool,
    /// Instance type
    #[arg(short = 't', long = "type", value_name = "type")]
    pub size: Option<String>,
}

// What `run` takes too.
#[derive(Debug, Clone, Default, Args)]
pub struct CreateOptions {
    /// Config key/value to apply to the new instance (may be passed multiple times)
    #[arg(short, long, value_name = "key=value", add = ArgValueCompleter::new(complete::key_assignments))]
    pub config: Vec<String>,
    /// Instance description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
    /// New key/value to apply to a specific device (may be passed multiple times)
    #[arg(short, long, value_name = "device,key=value")]
    pub device: Vec<String>,
    /// Include environment variables from file (may be passed multiple times)
    #[arg(long, value_name = "file", value_hint = clap::ValueHint::FilePath)]
    pub environment_file: Vec<String>,
    /// Ephemeral instance
    #[arg(short, long)]
    pub ephemeral: bool,
    /// Network name
    #[arg(short, long, value_name = "network")]
    pub network: Option<String>,
    /// Create the instance with no profiles applied
    #[arg(long)]
    pub no_profiles: bool,
    /// Profile to apply to the new instance (may be passed multiple times)
    #[arg(short, long, value_name = "profile", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: Vec<String>,
    /// Storage pool name
    #[arg(short, long, value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub storage: Option<String>,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
    /// Create a virtual machine
    #[arg(long)]
    pub vm: bool,
}

/// What the options say, ready for `ops`. Lower layers only see this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `--environment-file`, then `-c`: keys and values.
    pub config: BTreeMap<String, String>,
    /// `-d`: overrides by device.
    pub device_overrides: BTreeMap<String, BTreeMap<String, String>>,
    /// Profiles; none: those of standard input, else the default.
    pub profiles: Option<Vec<String>>,
}

impl CreateOptions {
    /// Checks and reads what can be without the store.
    ///
    /// # Errors
    /// A word of the wrong form, an environment file that cannot be read, an option not there yet.
    pub fn wanted(&self) -> Result<Wanted> {
        refuse_target(self.target.as_deref())?;
        refuse_option("--vm", self.vm)?;
        let mut config = BTreeMap::new();
        for path in self.environment_file.iter().filter(|p| !p.is_empty()) {
            let text = std::fs::read_to_string(path).context("Can't read from environment file")?;
            config.extend(environment(&text));
        }
        for word in &self.config {
            let (key, value) = kv::pair(word)?;
            config.insert(key, value);
        }
        let profiles = match self.profile.as_slice() {
            [] if self.no_profiles => Some(Vec::new()),
            [] => None,
            some => Some(some.to_vec()),
        };
        Ok(Wanted { config, device_overrides: kv::device_overrides(&self.device)?, profiles })
    }
}

impl CreateOptions {
    /// The request of these options over the YAML `document`, if there is one.
    ///
    /// # Errors
    /// As [`CreateOptions::wanted`]; the document is not an instance's.
    pub fn request(&self, cx: &Context, document: Option<&str>) -> Result<Request> {
        let wanted = self.wanted()?;
        let base: Option<InstancePut> = document.map(yaml::from_str).transpose()?;
        let given = base.as_ref().filter(|b| !b.profiles.is_empty()).map(|b| b.profiles.clone());
        let base = base.unwrap_or_default();
        let mut config = base.config;
        config.extend(wanted.config);
        Ok(Request {
            project: ProjectName::parse(&cx.project)?,
            config,
            devices: base.devices,
            device_overrides: wanted.device_overrides,
            profiles: wanted.profiles.or(given),
            ephemeral: self.ephemeral || base.ephemeral,
            description: self.description.clone().unwrap_or(base.description),
            storage: self.storage.as_deref().map(PoolName::parse).transpose()?,
            network: self.network.as_deref().map(network).transpose()?,
            ..Request::default()
        })
    }
}

fn network(word: &str) -> Result<NetworkName> {
    NetworkName::parse(word)
        .map_err(|_| Error::not_found(format!("Failed loading network \"{word}\": Network not found")))
}

impl CreateArgs {
    /// The image (none with `--empty`) and the new name (none: one is made up).
    ///
    /// # Errors
    /// Too few or too many words; those of `image_object`.
    pub fn image_and_name(
        &self,
        image_object: &dyn Fn(&str) -> Result<Object>,
    ) -> Result<(Option<Object>, Option<String>)> {
        let (image, name) = match (self.empty, self.words.as_slice()) {
            (true, []) => (None, None),
            (true, [name]) => (None, Some(name)),
            (false, [image]) => (Some(image), None),
            (false, [image, name]) => (Some(image), Some(name)),
            (false, []) => {
                let text = "not enough arguments; expected a value for “(--empty|[<remote>:]<image>)”";
                return Err(Error::invalid(text));
            }
            (_, [.., last]) => return Err(Error::invalid(format!("too many arguments; unexpected “{last}”"))),
        };
        let image = image.map(|word| image_object(word)).transpose()?;
        let name = name.map(|word| kv::object(word, "local")).transpose()?;
        if let Some(other) = name.as_ref().filter(|o| o.remote != "local") {
            return Err(Error::unsupported(format!("The remote \"{}\" only has images", other.remote)));
        }
        Ok((image, name.map(|o| o.name).filter(|n| !n.is_empty())))
    }
}

impl Create {
    /// Creates an instance.
    ///
    /// # Errors
    /// See `ops::create`.
    pub fn run(self, cx: &Context) -> Outcome {
        create(&self.args, None, cx)
    }
}

impl Launch {
    /// Creates and starts an instance.
    ///
    /// # Errors
    /// See `ops::create`.
    pub fn run(self, cx: &Context) -> Outcome {
        create(&self.args, Some(self.console.as_deref()), cx)
    }
}

/// `start`: none to create only, else the console to attach to, if any.
fn create(args: &CreateArgs, start: Option<Option<&str>>, cx: &Context) -> Outcome {
    let (image, name) = args.image_and_name(&|word| cx.image_object(word))?;
    let size = args.size.as_deref().filter(|size| !size.is_empty());
    let (limits, root_size) = size.map(type_limits::parse).transpose()?.unwrap_or_default();
    let document = cx.stdin_document()?;
    let mut request = args.options.request(cx, document.as_deref())?;
    request.root_size = root_size;
    for (key, limit) in limits {
        request.config.entry(key).or_insert(limit);
    }
    request.name = name.as_deref().map(InstanceName::parse).transpose()?;
    let store = cx.store()?;
    request.project = cx.project(&store)?;
    request.image = image.map(|i| resolve(cx, &store, &i)).transpose()?;
    cx.first_use(&store)?;
    let verb = if start.is_some() { "Launching" } else { "Creating" };
    cx.notice(format_args!("{verb} {}", name.as_deref().unwrap_or("the instance")))?;
    let made = if start.is_some() { create::launch(&store, &request) } else { create::create(&store, &request) };
    let made = made.map_err(|e| failed_start(cx, &store, &request, e))?;
    if name.is_none() {
        cx.notice(format_args!("Instance name is: {made}"))?;
    }
    drop(store);
    if matches!(start, Some(Some(_))) { console::attach(cx, &made, false) } else { Ok(DONE) }
}

/// An instance that was made and did not start: where to look.
fn failed_start(cx: &Context, store: &Store, request: &Request, e: Error) -> Error {
    let Some(name) = request.name.as_ref().filter(|_| e.hint_text().is_none() && e.kind() != Kind::Exists) else {
        return e;
    };
    match store.instance_exists(&request.project, name) {
        Ok(true) => {
            let hint =
                format!("Try `{} info --show-log {name}{}` for more info", cx.env.program(), cx.project_argument());
            e.hint(hint)
        }
        _ => e,
    }
}

/// The image that a word names, fetched or built if it is not here yet.
///
/// # Errors
/// See `ops::image`.
pub(super) fn resolve(cx: &Context, store: &Store, image: &Object) -> Result<Fingerprint> {
    if let Some(layout) = cx.layout_of(image)? {
        let progress = cx.progress("Preparing image: %s");
        let found = image_oci::cached_or_imported(store, &layout, &mut reporter(&progress));
        progress.clear();
        return found;
    }
    let place = cx.place(&image.remote)?;
    cx.may_fetch(store, &cx.project(store)?, &place)?;
    let progress = cx.progress(if matches!(place, Place::Server(_) | Place::Registry(_)) {
        "Retrieving image: %s"
    } else {
        "Preparing image: %s"
    });
    let found = image::resolve(store, &cx.tools(), &place, &image.name, &mut reporter(&progress));
    progress.clear();
    found
}

/// `environment.*` keys of an environment file: `NAME=value` lines, `#` comments, one pair of quotes taken off the value.
fn environment(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let (name, value) = (name.trim(), value.trim());
            let bare = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
            (!name.is_empty()).then(|| (format!("environment.{name}"), bare.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_image_and_name() {
        let read = |empty: bool, words: &[&str]| {
            let args =
                CreateArgs { empty, words: words.iter().map(ToString::to_string).collect(), ..CreateArgs::default() };
            args.image_and_name(&|word| kv::object(word, "local"))
                .map(|(i, n)| (i.map(|i| format!("{}|{}", i.remote, i.name)), n))
        };
        assert_eq!(
            read(false, &["bootstrap:debian/12", "local:c1"]).unwrap(),
            (Some("bootstrap|debian/12".into()), Some("c1".into()))
        );
        assert_eq!(read(false, &["img", "local:"]).unwrap(), (Some("local|img".into()), None));
        assert_eq!(read(true, &["c1"]).unwrap(), (None, Some("c1".into())));
        assert_eq!(read(true, &["a", "b"]).unwrap_err().to_string(), "too many arguments; unexpected “b”");
        assert_eq!(read(false, &["x:a"]).unwrap_err().to_string(), "The remote \"x\" doesn't exist");
        assert!(read(false, &[]).is_err() && read(false, &["a", "bootstrap:b"]).is_err());
    }

    #[test]
    fn environment_files() {
        let got = environment("# c\nA=1\n B = \"x y\" \nC='\n=z\nD\nE=\"a'\n");
        let want = [("A", "1"), ("B", "x y"), ("C", "'"), ("D", ""), ("E", "\"a'")];
        assert_eq!(got, want.map(|(k, v)| (format!("environment.{k}"), v.to_string())).into());
    }
}
