//! `image info`, `image show`, `image edit` and the properties of an image.

use super::image::Vm;
use super::image_list::{mebibytes, yes_no};
use super::kv::Object;
use super::output::yaml::document;
use super::{Context, DONE, Outcome, complete, edit, kv, refuse_option};
use crate::base::names::Fingerprint;
use crate::base::time::{self, GoTime};
use crate::base::yaml;
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::view::ImageView;
use crate::ops::image::{self, Change};
use crate::ops::image_oci;
use crate::ops::image_remote::{self, Place};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde::Deserialize;
use std::fmt::Write;

/// Edit image properties
#[derive(Debug, Args)]
#[command(after_help = "stapes image edit <image>
    Launch a text editor to edit the properties

stapes image edit <image> < image.yaml
    Load the image properties from a YAML file")]
pub struct Edit {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::local_images))]
    pub image: String,
}

/// Get image properties
#[derive(Debug, Args)]
pub struct GetProperty {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::images))]
    pub image: String,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
}

/// Show useful information about images
#[derive(Debug, Args)]
pub struct Info {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::images))]
    pub image: String,
    #[command(flatten)]
    pub vm: Vm,
}

/// Set image properties
#[derive(Debug, Args)]
pub struct SetProperty {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::local_images))]
    pub image: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true)]
    pub values: Vec<String>,
}

/// Show image properties
#[derive(Debug, Args)]
pub struct Show {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::images))]
    pub image: String,
    #[command(flatten)]
    pub vm: Vm,
}

/// Unset image properties
#[derive(Debug, Args)]
pub struct UnsetProperty {
    /// Image
    #[arg(value_name = "image", add = ArgValueCompleter::new(complete::local_images))]
    pub image: String,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
}

/// Lines above the text in the editor.
const EDIT_HELP: &str = "### This is a YAML representation of the image properties.
### Any line starting with a '# will be ignored.
###
### Each property is represented by a single line:
### An example would be:
###  description: My custom image";

/// The image that `word` names on its remote. `vm`: a virtual machine's.
pub(super) fn find(cx: &Context, store: &Store, word: &str, vm: bool) -> Result<Fingerprint> {
    let Object { remote, name, .. } = cx.image_object(word)?;
    image::find_on(store, &cx.place(&remote)?, &name, vm)
}

/// The image as it is where it is: on a server, it need not be here.
fn view(cx: &Context, word: &str, wanted: &Vm) -> Result<ImageView> {
    let Object { remote, name, .. } = cx.image_object(word)?;
    let place = cx.place(&remote)?;
    if let Place::Server(server) = &place {
        return image_remote::view_of(server, &name, wanted.kind());
    }
    if let Place::Registry(registry) = &place {
        refuse_option("--vm", wanted.vm)?;
        return image_oci::view_of(registry, &name);
    }
    let store = cx.reader()?;
    image::view(&store, &image::find_on(&store, &place, &name, wanted.vm)?)
}

impl Info {
    /// Prints it.
    ///
    /// # Errors
    /// See `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        cx.print(text(&view(cx, &self.image, &self.vm)?))?;
        Ok(DONE)
    }
}

impl Show {
    /// Prints it.
    ///
    /// # Errors
    /// See `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        cx.print(document(&view(cx, &self.image, &self.vm)?.put)?)?;
        Ok(DONE)
    }
}

impl GetProperty {
    /// Prints it.
    ///
    /// # Errors
    /// The image has no such property; see `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        let image = view(cx, &self.image, &Vm { vm: false })?;
        let value = image.put.properties.get(&self.key).ok_or_else(|| Error::not_found("Property not found"))?;
        cx.line(value)?;
        Ok(DONE)
    }
}

impl SetProperty {
    /// Sets them.
    ///
    /// # Errors
    /// See `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.image)?;
        let pairs = cx.values(kv::assignments(&self.values)?)?;
        let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let store = cx.store()?;
        image::set_properties(&store, &image::find(&store, &name)?, &pairs)?;
        Ok(DONE)
    }
}

impl UnsetProperty {
    /// Removes it; fine if it is not there.
    ///
    /// # Errors
    /// See `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.image)?;
        let store = cx.store()?;
        image::set_properties(&store, &image::find(&store, &name)?, &[(self.key, None)])?;
        Ok(DONE)
    }
}

/// What `image edit` reads. Go tells a list that is not given from an empty one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    auto_update: bool,
    #[serde(deserialize_with = "yaml::config")]
    properties: Config,
    public: bool,
    expires_at: GoTime,
    profiles: Option<Vec<String>>,
}

impl Edit {
    /// Edits it.
    ///
    /// # Errors
    /// See `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        let name = kv::local(&self.image)?;
        let store = cx.store()?;
        let fingerprint = image::find(&store, &name)?;
        let text = document(&image::view(&store, &fingerprint)?.put)?;
        edit::edit(cx, EDIT_HELP, &text, &mut |text| {
            let new: Document = yaml::from_str::<Option<Document>>(text)?.unwrap_or_default();
            let change = Change {
                auto_update: new.auto_update,
                properties: new.properties,
                public: new.public,
                expires_at: new.expires_at.0,
                profiles: new.profiles,
            };
            image::update(&store, &fingerprint, change)
        })?;
        Ok(DONE)
    }
}

/// `image info`.
fn text(image: &ImageView) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    let date = |at: GoTime| at.0.map_or_else(|| "never".to_string(), time::format_table);
    line(format!("Fingerprint: {}", image.fingerprint));
    line(format!("Size: {}", mebibytes(image.size)));
    line(format!("Architecture: {}", image.architecture));
    line(format!("Type: {}", image.kind));
    line(format!("Public: {}", yes_no(image.put.public)));
    line("Timestamps:".to_string());
    if image.created_at.0.is_some() {
        line(format!("    Created: {}", date(image.created_at)));
    }
    line(format!("    Uploaded: {}", date(image.uploaded_at)));
    line(format!("    Expires: {}", date(image.put.expires_at)));
    line(format!("    Last used: {}", date(image.last_used_at)));
    line("Properties:".to_string());
    image.put.properties.iter().for_each(|(key, value)| line(format!("    {key}: {value}")));
    line("Aliases:".to_string());
    for alias in &image.aliases {
        match alias.description.as_str() {
            "" => line(format!("    - {}", alias.name)),
            description => line(format!("    - {} ({description})", alias.name)),
        }
    }
    line(format!("Cached: {}", yes_no(image.cached)));
    line(format!("Auto update: {}", if image.put.auto_update { "enabled" } else { "disabled" }));
    if let Some(source) = &image.update_source {
        line("Source:".to_string());
        line(format!("    Server: {}", source.server));
        line(format!("    Protocol: {}", source.protocol));
        line(format!("    Alias: {}", source.alias));
    }
    if image.put.profiles.is_empty() {
        line("Profiles: []".to_string());
    } else {
        line("Profiles:".to_string());
        image.put.profiles.iter().for_each(|name| line(format!("    - {name}")));
    }
    out
}
