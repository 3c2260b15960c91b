//! `remote`: the servers that images come from, in the client's configuration.

use super::list::FormatOption;
use super::output::columns::{self, Column, column};
use super::{Context, DONE, Outcome};
use crate::base::url::Url;
use crate::error::{Error, Result};
use crate::host::http::{Client, fingerprint};
use crate::model::remote::{self as model, Remotes};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::BTreeMap;

/// Manage the list of remote servers
#[derive(Debug, Subcommand)]
pub enum Remote {
    Add(Add),
    GetDefault(GetDefault),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(Remove),
    #[command(visible_alias = "mv")]
    Rename(Rename),
    #[command(visible_alias = "set-url")]
    SetUrls(SetUrls),
    #[command(visible_alias = "set-default")]
    Switch(Switch),
}

/// Add new remote servers
///
/// Servers of images are spoken to over https. Their certificate must be
/// signed by an authority this host knows, or be accepted here once.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes remote add mirror https://images.example.org --protocol simplestreams
    Add a server of images"
)]
pub struct Add {
    /// Name and URL
    #[arg(value_name = "remote", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    /// Accept certificate
    #[arg(long)]
    pub accept_certificate: bool,
    /// Server authentication type (tls or oidc)
    #[arg(long, value_name = "type", hide = true)]
    pub auth_type: Option<String>,
    /// Binary helper for retrieving credentials
    #[arg(long, value_name = "program")]
    pub credentials_helper: Option<String>,
    /// Server protocol (oci or simplestreams)
    #[arg(long, value_name = "protocol", default_value = model::SIMPLESTREAMS)]
    pub protocol: String,
    /// Public image server
    #[arg(long)]
    pub public: bool,
}

/// Show the default remote
#[derive(Debug, Args)]
pub struct GetDefault {}

/// List the available remotes
///
/// Default column layout: nupaPsg
///
/// Column shorthand chars:
///     n - Name
///     u - URL
///     p - Protocol
///     a - Auth Type
///     P - Public
///     s - Static
///     g - Global
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "nupaPsg")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Remove remotes
#[derive(Debug, Args)]
pub struct Remove {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: String,
}

/// Rename remotes
#[derive(Debug, Args)]
pub struct Rename {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: String,
    /// New name
    #[arg(value_name = "new remote name")]
    pub name: String,
}

/// Set the URLs for the remote
#[derive(Debug, Args)]
pub struct SetUrls {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: String,
    /// URL
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<String>,
}

/// Switch the default remote
#[derive(Debug, Args)]
pub struct Switch {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: String,
}

impl Remote {
    /// Runs the command.
    ///
    /// # Errors
    /// See `model::remote`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Add(add) => add.run(cx),
            Self::GetDefault(_) => {
                cx.line(cx.default_remote()?)?;
                Ok(DONE)
            }
            Self::List(list) => list.run(cx),
            Self::Remove(remove) => {
                change(cx, |all| all.remove(name(&remove.remote)))?;
                cx.folders().renamed(name(&remove.remote), None)?;
                Ok(DONE)
            }
            Self::Rename(rename) => {
                change(cx, |all| all.rename(name(&rename.remote), name(&rename.name)))?;
                cx.folders().renamed(name(&rename.remote), Some(name(&rename.name)))?;
                Ok(DONE)
            }
            Self::SetUrls(set) => {
                let [url] = &set.urls[..] else {
                    return Err(Error::unsupported("A server of images has one URL").into());
                };
                change(cx, |all| all.set_url(name(&set.remote), url))
            }
            Self::Switch(switch) => change(cx, |all| all.switch(name(&switch.remote))),
        }
    }
}

/// A remote may be written with its colon.
fn name(word: &str) -> &str {
    word.strip_suffix(':').unwrap_or(word)
}

fn change(cx: &Context, change: impl FnOnce(&mut Remotes) -> Result<()>) -> Outcome {
    let folders = cx.folders();
    let mut remotes = folders.load()?;
    change(&mut remotes)?;
    folders.save(&remotes)?;
    Ok(DONE)
}

impl Add {
    fn run(self, cx: &Context) -> Outcome {
        let (given, addr) = match &self.words[..] {
            [name, addr] => (Some(name.as_str()), addr),
            [addr] => (None, addr),
            _ => return Err(Error::invalid("not enough arguments; expected a value for “<URL>”").into()),
        };
        let addr = if addr.contains("://") || addr.is_empty() { addr.clone() } else { format!("https://{addr}") };
        let name = match given {
            Some(name) => name.to_string(),
            None => Url::parse(&addr)?.host,
        };
        let remote = model::Remote {
            credentials_helper: self.credentials_helper.unwrap_or_default(),
            ..model::server(&addr, &self.protocol)
        };
        let url = model::check(&remote)?;
        let folders = cx.folders();
        let mut remotes = folders.load()?;
        remotes.add(&name, remote)?;
        if self.accept_certificate {
            let pem = Client::new(cx.http()).certificate(&url)?;
            cx.notice(format_args!("Certificate fingerprint: {}", fingerprint(&pem)?))?;
            folders.accept(&name, &pem)?;
        }
        folders.save(&remotes)?;
        Ok(DONE)
    }
}

/// What a letter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    Url,
    Protocol,
    AuthType,
    Public,
    Static,
    Global,
}

/// The letters of `remote list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('n', "NAME", Cell::Name),
    column('u', "URL", Cell::Url),
    column('p', "PROTOCOL", Cell::Protocol),
    column('a', "AUTH TYPE", Cell::AuthType),
    column('P', "PUBLIC", Cell::Public),
    column('s', "STATIC", Cell::Static),
    column('g', "GLOBAL", Cell::Global),
];

/// A remote as `--format json|yaml` prints it, under its name.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    addr: &'a str,
    auth_type: &'a str,
    protocol: &'a str,
    public: bool,
    #[serde(rename = "static")]
    fixed: bool,
    global: bool,
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let columns = columns::letters(&self.columns, COLUMNS)?;
        let remotes = cx.folders().load()?;
        let default = cx.env.remote.as_deref().unwrap_or(&remotes.default);
        let shown: BTreeMap<&str, Shown<'_>> =
            remotes.remotes.iter().map(|(n, r)| (n.as_str(), Shown::of(r))).collect();
        let row = |(name, remote): (&&str, &Shown<'_>)| {
            columns.iter().map(|column| column.cell.of(name, *name == default, remote)).collect()
        };
        let rows = shown.iter().map(row).collect();
        let header: Vec<&str> = columns.iter().map(|column| column.header).collect();
        self.format.print(&format, &header, rows, &shown)
    }
}

impl<'a> Shown<'a> {
    fn of(remote: &'a model::Remote) -> Self {
        let auth_type = if remote.auth_type.is_empty() { "none" } else { &remote.auth_type };
        let model::Remote { addr, protocol, public, fixed, global, .. } = remote;
        Self { addr, auth_type, protocol, public: *public, fixed: *fixed, global: *global }
    }
}

impl Cell {
    fn of(self, name: &str, current: bool, remote: &Shown<'_>) -> String {
        let yes_no = |flag: bool| if flag { "YES" } else { "NO" }.to_string();
        match self {
            Self::Name if current => format!("{name} (current)"),
            Self::Name => name.to_string(),
            Self::Url => remote.addr.to_string(),
            Self::Protocol => remote.protocol.to_string(),
            Self::AuthType => remote.auth_type.to_string(),
            Self::Public => yes_no(remote.public),
            Self::Static => yes_no(remote.fixed),
            Self::Global => yes_no(remote.global),
        }
    }
}
