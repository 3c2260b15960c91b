//! Files that an image wants generated in its instances (`templates` of `metadata.yaml`; incus-reference, section 5.1).
//!
//! Called by `ops` when an instance starts, for the templates of the triggers that are due. The template is the image's text:
//! it is rendered by an engine without loader, includes, macros or file access, on a fuel that pays for steps and bytes. Its
//! source is read beneath the folder of templates without links (CVE-2026-48752), its result is written beneath the
//! instance's root (CVE-2026-23954, -33897).
mod pongo;

use super::Root;
use super::files::{make_parents, open_target, set};
use crate::error::{Context as _, Error, Result};
use crate::model::instance::{Config, Devices};
use crate::sys::path::{self, Links, Owner};
use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Largest template, bytes.
const SOURCE_MAX: u64 = 1 << 20;
/// Largest result, bytes.
const RESULT_MAX: usize = 8 << 20;
/// Work before rendering is given up: a unit pays for one step or 64 bytes of any value made on the way, so this is 32 MiB at
/// most.
const FUEL: u64 = 500_000;

/// One file to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Path in the instance.
    pub path: String,
    /// Bare file name in the folder of templates.
    pub source: String,
    /// Leave a file that is there already.
    pub create_only: bool,
    /// The template's own `properties`.
    pub properties: BTreeMap<String, String>,
    /// Owner and mode of a new file, as the instance sees them.
    pub owner: Owner,
}

/// What templates can look at.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `create`, `copy`, `rename` or `start`.
    pub trigger: &'a str,
    /// `name`, `type`, `architecture`, `ephemeral`, `privileged` of the instance.
    pub instance: &'a BTreeMap<String, String>,
    /// Expanded configuration.
    pub config: &'a Config,
    /// Expanded devices.
    pub devices: &'a Devices,
}

/// Owner and mode from the texts of `metadata.yaml`: empty is root, root, 0644; the mode is octal.
///
/// # Errors
/// Invalid.
pub fn owner(uid: &str, gid: &str, mode: &str) -> Result<Owner> {
    let number = |what: &str, text: &str, radix: u32, default: u32| match text {
        "" => Ok(default),
        text => u32::from_str_radix(text, radix)
            .map_err(|_| Error::invalid(format!("Invalid {what} {text:?} of a template"))),
    };
    let mode = number("mode", mode, 8, 0o644)?;
    if mode > 0o7777 {
        return Err(Error::invalid(format!("Invalid mode \"{mode:o}\" of a template")));
    }
    Ok(Owner { uid: number("UID", uid, 10, 0)?, gid: number("GID", gid, 10, 0)?, mode })
}

/// A file to write into an instance, rendered already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered<'a> {
    /// Path in the instance.
    pub path: &'a str,
    /// Its content.
    pub text: &'a str,
    /// Leave a file that is there already.
    pub create_only: bool,
    /// Owner and mode of a new file, as the instance sees them.
    pub owner: Owner,
}

/// The text of one template. `sources` is the folder of templates.
///
/// # Errors
/// Invalid: the template's name or text. Those of reading.
pub fn text(sources: BorrowedFd<'_>, template: &Template, scope: &Scope<'_>) -> Result<String> {
    let failed = || format!("Failed applying template \"{}\"", template.path);
    let text = source(sources, &template.source).with_context(failed)?;
    render(&text, template, scope).with_context(failed)
}

/// Writes one file in the instance. An existing file is emptied and keeps owner and mode; missing parents are made (0755,
/// root). False if `create_only` left it alone.
///
/// # Errors
/// Invalid: something that is no file is at its place. Those of writing.
pub fn write(root: &Root<'_>, file: &Rendered<'_>) -> Result<bool> {
    let path = Path::new(file.path);
    if file.create_only && path::open(root.fd, path, rustix::fs::OFlags::PATH, 0, Links::InRoot).is_ok() {
        return Ok(false);
    }
    let write = || -> Result<()> {
        let owner = root.host(file.owner)?;
        make_parents(root, path)?;
        let mut target = open_target(root, path, false)?;
        target.file.write_all(file.text.as_bytes()).context("write")?;
        if target.fresh {
            set(target.file.as_fd(), owner)?;
        }
        Ok(())
    };
    write().with_context(|| format!("Failed applying template \"{}\"", file.path))?;
    Ok(true)
}

/// [`text`] and [`write`] in one.
///
/// # Errors
/// Those of both.
pub fn apply(root: &Root<'_>, sources: BorrowedFd<'_>, template: &Template, scope: &Scope<'_>) -> Result<bool> {
    let text = text(sources, template, scope)?;
    let Template { path, create_only, owner, .. } = template;
    write(root, &Rendered { path, text: &text, create_only: *create_only, owner: *owner })
}

fn source(folder: BorrowedFd<'_>, name: &str) -> Result<String> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(Error::invalid(format!("Invalid template file name {name:?}")));
    }
    let text = path::read_limited(folder, Path::new(name), SOURCE_MAX, Links::Refuse)?;
    String::from_utf8(text).map_err(|_| Error::invalid(format!("Template file \"{name}\" is not UTF-8")))
}

/// Renders the text of a template, written for pongo2 as Incus's images are, without escaping.
///
/// # Errors
/// Invalid: the template is wrong, does too much, or its result is larger than 8 MiB.
pub fn render(source: &str, template: &Template, scope: &Scope<'_>) -> Result<String> {
    let wrong = |e: minijinja::Error| Error::invalid(format!("Bad template: {e}"));
    let mut engine = Environment::new();
    engine.set_fuel(Some(FUEL));
    engine.set_recursion_limit(100);
    let syntax = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build();
    engine.set_syntax(syntax.map_err(wrong)?);
    engine.set_undefined_behavior(UndefinedBehavior::Chainable);
    engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let config = scope.config.clone();
    engine.add_function("config_get", move |key: &str, default: Option<Value>| match config.get(key) {
        Some(value) => Value::from(value.trim_end_matches(['\r', '\n'])),
        None => default.unwrap_or_default(),
    });
    let values = context! {
        trigger => scope.trigger,
        path => &template.path,
        instance => scope.instance,
        container => scope.instance,
        config => scope.config,
        devices => scope.devices,
        properties => &template.properties,
    };
    let source = pongo::to_jinja(source);
    let mut result = Limited(Vec::new());
    let parsed = engine.template_from_str(&source).map_err(wrong)?;
    parsed.render_captured_to(values, &mut result).map_err(wrong)?;
    String::from_utf8(result.0).map_err(|_| Error::internal("A template's result is not UTF-8"))
}

/// Takes [`RESULT_MAX`] bytes.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + data.len() > RESULT_MAX {
            return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
