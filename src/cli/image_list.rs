//! `image list`: the local images, or those a remote can make, as a table or as objects.

use super::list::FormatOption;
use super::output::columns::{self, Column, column};
use super::{Context, Outcome};
use crate::base::time;
use crate::error::{Error, Result};
use crate::model::view::ImageView;
use crate::ops::image;
use crate::ops::image_remote::Place;
use clap::Args;
use regex_lite::Regex;

/// List images
///
/// Filters may be of the <key>=<value> form for property based filtering,
/// or part of the image hash or part of the image alias name.
///
/// The -c option takes a (optionally comma-separated) list of arguments
/// that control which image attributes to output when displaying in table
/// or csv format.
///
/// Default column layout is: lfpdatsu
///
/// Column shorthand chars:
///     l - Shortest image alias (and optionally number of other aliases)
///     L - Newline-separated list of all image aliases
///     f - Fingerprint (short)
///     F - Fingerprint (long)
///     p - Whether image is public
///     d - Description
///     e - Project
///     a - Architecture
///     s - Size
///     u - Upload date
///     t - Type
///
/// An entry "properties:<name>" shows a property.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes image list images: debian architecture=x86_64
    List what a server has

stapes image list bootstrap:
    List what can be built on this host

stapes image list os=debian -c Fd
    List the images of an operating system"
)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// Display images from all projects
    #[arg(long)]
    pub all_projects: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = DEFAULT)]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

const DEFAULT: &str = "lfpdatsu";

/// What a letter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Architecture,
    Description,
    Project,
    Fingerprint,
    FingerprintFull,
    Alias,
    Aliases,
    Public,
    Size,
    Type,
    Uploaded,
}

/// The letters of `image list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('a', "ARCHITECTURE", Cell::Architecture),
    column('d', "DESCRIPTION", Cell::Description),
    column('e', "PROJECT", Cell::Project),
    column('f', "FINGERPRINT", Cell::Fingerprint),
    column('F', "FINGERPRINT", Cell::FingerprintFull),
    column('l', "ALIAS", Cell::Alias),
    column('L', "ALIASES", Cell::Aliases),
    column('p', "PUBLIC", Cell::Public),
    column('s', "SIZE", Cell::Size),
    column('t', "TYPE", Cell::Type),
    column('u', "UPLOAD DATE", Cell::Uploaded),
];

/// A column that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chosen {
    Letter(Column<Cell>),
    Property(String),
}

impl Chosen {
    fn header(&self) -> String {
        match self {
            Self::Letter(column) => column.header.to_string(),
            Self::Property(name) => name.to_uppercase(),
        }
    }

    fn cell(&self, image: &ImageView) -> String {
        match self {
            Self::Letter(column) => column.cell.of(image),
            Self::Property(name) => image.put.properties.get(name).cloned().unwrap_or_default(),
        }
    }
}

impl Cell {
    fn of(self, image: &ImageView) -> String {
        match self {
            Self::Architecture => image.architecture.clone(),
            Self::Description => image.put.properties.get("description").cloned().unwrap_or_default(),
            Self::Project => image.project.clone(),
            Self::Fingerprint => image.fingerprint.chars().take(12).collect(),
            Self::FingerprintFull => image.fingerprint.clone(),
            Self::Alias => alias(image),
            Self::Aliases => {
                let mut names: Vec<&str> = image.aliases.iter().map(|a| a.name.as_str()).collect();
                names.sort_unstable();
                names.join("\n")
            }
            Self::Public => yes_no(image.put.public).to_string(),
            // Not made yet: no size.
            Self::Size if image.fingerprint.is_empty() => String::new(),
            Self::Size => mebibytes(image.size),
            Self::Type => image.kind.to_uppercase(),
            Self::Uploaded => image.uploaded_at.0.map(time::format_table).unwrap_or_default(),
        }
    }
}

/// As Incus prints a flag.
pub(super) fn yes_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// As Incus prints the size of an image.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.2}MiB", bytes as f64 / 1_048_576.0)
}

/// The shortest alias, the first of equals, and how many more there are.
fn alias(image: &ImageView) -> String {
    let shortest = image.aliases.iter().map(|a| a.name.as_str()).min_by_key(|name| name.len()).unwrap_or_default();
    match image.aliases.len() {
        0 | 1 => shortest.to_string(),
        n => format!("{shortest} ({} more)", n - 1),
    }
}

impl List {
    fn chosen(&self) -> Result<Vec<Chosen>> {
        let value = match self.all_projects && self.columns == DEFAULT {
            true => format!("e{DEFAULT}"),
            false => self.columns.clone(),
        };
        let mut chosen = Vec::new();
        for entry in value.split(',') {
            match entry.strip_prefix("properties:") {
                Some("") => return Err(Error::invalid(format!("Empty property name in '{entry}'"))),
                Some(name) => chosen.push(Chosen::Property(name.to_string())),
                // An empty entry is told about the whole value.
                None if entry.is_empty() => return columns::letters(&value, COLUMNS).map(|_| Vec::new()),
                None => chosen.extend(columns::letters(entry, COLUMNS)?.into_iter().map(Chosen::Letter)),
            }
        }
        Ok(chosen)
    }

    /// Lists.
    ///
    /// # Errors
    /// See `ops::image`.
    pub fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let (remote, filters) = match self.filters.split_first() {
            Some((first, rest)) if first.ends_with(':') && !first.contains('=') => {
                (cx.image_object(first)?.remote, rest)
            }
            _ => (cx.default_remote()?, &self.filters[..]),
        };
        let place = cx.place(&remote)?;
        let chosen = self.chosen()?;
        let store = cx.reader()?;
        let (mut images, mut broken) = (Vec::new(), Vec::new());
        let mut all = Vec::new();
        if self.all_projects && matches!(place, Place::Local) {
            for project in store.image_projects()? {
                store.use_images_of(project);
                all.extend(image::on_remote(&store, &place)?);
            }
        } else {
            all = image::on_remote(&store, &place)?;
        }
        for (fingerprint, view) in all {
            match view {
                Ok(view) if filters.iter().all(|f| shown(f, &view)) => images.push(view),
                Ok(_) => {}
                Err(e) => broken.push((fingerprint, e)),
            }
        }
        let rows = images.iter().map(|i| chosen.iter().map(|c| c.cell(i)).collect()).collect();
        let header: Vec<String> = chosen.iter().map(Chosen::header).collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        // One damaged record hides no other image.
        for (fingerprint, e) in broken {
            cx.warn(format_args!("Image {}: {e}", fingerprint.get(..12).unwrap_or(&fingerprint)));
        }
        self.format.print(&format, &header, rows, &images)
    }
}

/// A word is a part of an alias or of the fingerprint; `key=value` is a property (its name may be shortened between dots; the
/// value is a regular expression over all of it unless it has `^` or `$`) or a field of the object.
fn shown(filter: &str, image: &ImageView) -> bool {
    let Some((key, value)) = filter.split_once('=') else {
        return image.fingerprint.contains(filter) || image.aliases.iter().any(|a| a.name.contains(filter));
    };
    let whole = if value.contains(['^', '$']) { value.to_string() } else { format!("^{value}$") };
    let expression = Regex::new(&whole).ok();
    let fits = |text: &str| expression.as_ref().map_or(text == value, |e| e.is_match(text));
    let named = |name: &str| {
        let (short, full): (Vec<&str>, Vec<&str>) = (key.split('.').collect(), name.split('.').collect());
        short.len() == full.len() && short.iter().zip(&full).all(|(s, f)| f.starts_with(s))
    };
    let property = image.put.properties.iter().any(|(name, text)| named(name) && fits(text));
    property || field(image, key).is_some_and(|text| fits(&text))
}

fn field(image: &ImageView, key: &str) -> Option<String> {
    match serde_json::to_value(image).ok()?.get(key)? {
        serde_json::Value::String(text) => Some(text.clone()),
        value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::GoTime;
    use crate::model::view::{ImageAliasView, ImagePut};

    fn view() -> ImageView {
        let alias = |name: &str| ImageAliasView { name: name.into(), description: String::new() };
        let properties = [("os", "Debian"), ("requirements.cgroup", "v2")];
        ImageView {
            put: ImagePut {
                properties: properties.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                ..ImagePut::default()
            },
            aliases: vec![alias("deb/12"), alias("mine"), alias("deb2")],
            architecture: "x86_64".into(),
            cached: false,
            filename: String::new(),
            fingerprint: "0123456789abcdef".repeat(4),
            size: 3 << 19,
            update_source: None,
            kind: "container".into(),
            created_at: GoTime(None),
            last_used_at: GoTime(None),
            uploaded_at: GoTime(None),
            project: "default".into(),
            locations: Vec::new(),
        }
    }

    #[test]
    fn cells() {
        let image = view();
        assert_eq!(Cell::Alias.of(&image), "mine (2 more)");
        assert_eq!(Cell::Aliases.of(&image), "deb/12\ndeb2\nmine");
        assert_eq!(
            (Cell::Size.of(&image).as_str(), Cell::Fingerprint.of(&image).as_str()),
            ("1.50MiB", "0123456789ab")
        );
    }

    #[test]
    fn filters() {
        let image = view();
        for good in ["min", "89abc", "os=Debian", "os=Deb.*", "o=Debian", "req.cg=v2", "type=container", "public=false"]
        {
            assert!(shown(good, &image), "{good}");
        }
        for bad in ["os=Deb", "os=debian", "x", "type=virtual-machine", "req=v2", "architecture=(", "os=["] {
            assert!(!shown(bad, &image), "{bad}");
        }
    }

    #[test]
    fn columns_of_letters_and_properties() {
        let list = |columns: &str| {
            let format = FormatOption { format: "table".into() };
            let list = List { filters: Vec::new(), all_projects: false, columns: columns.into(), format };
            list.chosen().map(|c| c.iter().map(Chosen::header).collect::<Vec<_>>().join("|"))
        };
        assert_eq!(list("lf,properties:os,u").expect("good"), "ALIAS|FINGERPRINT|OS|UPLOAD DATE");
        assert_eq!(list("properties:").expect_err("empty").to_string(), "Empty property name in 'properties:'");
        for bad in ["lz", "l,,f", ""] {
            assert!(list(bad).is_err(), "{bad}");
        }
    }
}
