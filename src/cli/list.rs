//! `list`: the instances as a table or as objects.

use super::list_cells::{cells, needs};
use super::output::columns::{self, Chosen, Column, column};
use super::output::{Format, Kind, Table, print, sort_rows};
use super::{Context, DONE, Outcome, complete, kv};
use crate::base::names::ProjectName;
use crate::error::{Error, Result};
use crate::model::keys;
use crate::ops::list as ops;
use crate::ops::list_filter::{Filter, Wanted};
use crate::store::Store;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;
use std::mem::ManuallyDrop;

const DEFAULT: &str = "ns46tSL";
const DEFAULT_ALL_PROJECTS: &str = "ens46tSL";

/// List instances
///
/// Default column layout: ns46tS
/// Fast column layout: nsacPt
///
/// A single keyword like "web" which will list any instance with a name starting by "web".
/// A regular expression on the instance name. (e.g. .*web.*01$).
/// A key/value pair referring to a configuration item. For those, the
/// namespace can be abbreviated to the smallest unambiguous identifier.
/// A key/value pair where the key is a shorthand. Multiple values must be delimited by ','. Available shorthands:
///   - type={instance type}
///   - status={instance current lifecycle status}
///   - architecture={instance architecture}
///   - location={location name}
///   - ipv4={ip or CIDR}
///   - ipv6={ip or CIDR}
///
/// Examples:
///   - "user.blah=abc" will list all instances with the "blah" user property set to "abc".
///   - "u.blah=abc" will do the same
///   - "type=container status=running" will list all running container instances
///
/// When multiple filters are passed, they are added one on top of the other,
/// selecting instances which satisfy them all.
///
/// == Columns ==
/// The -c option takes a comma separated list of arguments that control
/// which instance attributes to output when displaying in table or csv
/// format.
///
/// Column arguments are either pre-defined shorthand chars (see below),
/// or (extended) config keys.
///
/// Commas between consecutive shorthand chars are optional.
///
/// Pre-defined column shorthand chars:
///   4 - IPv4 address
///   6 - IPv6 address
///   a - Architecture
///   b - Storage pool
///   c - Creation date
///   d - Description
///   D - disk usage
///   e - Project name
///   f - Base Image Fingerprint (short)
///   F - Base Image Fingerprint (long)
///   l - Last used date
///   m - Memory usage
///   M - Memory usage (%)
///   n - Name
///   N - Number of Processes
///   p - PID of the instance's init process
///   P - Profiles
///   R - Remote name
///   s - State
///   S - Number of snapshots
///   t - Type (persistent or ephemeral)
///   u - CPU usage (in seconds)
///   U - Started date
///
/// Custom columns are defined with "[config:|devices:]key[:name][:maxWidth]":
///   KEY: The (extended) config or devices key to display. If [config:|devices:] is omitted then it defaults to config key.
///   NAME: Name to display in the column header.
///   Defaults to the key if not specified or empty.
///
///   MAXWIDTH: Max width of the column (longer results are truncated).
///   Defaults to -1 (unlimited). Use 0 to limit to the column header size.
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "stapes list -c nFs46,volatile.eth0.hwaddr:MAC,config:image.os,devices:eth0.parent:ETHP
  Show instances using the \"NAME\", \"BASE IMAGE\", \"STATE\", \"IPV4\", \"IPV6\" and \"MAC\" columns.
  \"BASE IMAGE\", \"MAC\" and \"IMAGE OS\" are custom columns generated from instance configuration keys.
  \"ETHP\" is a custom column generated from a device key.

stapes list -c ns,user.comment:comment
  List instances with their running state and user comment."
)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter", add = ArgValueCompleter::new(complete::instances))]
    pub filters: Vec<String>,
    /// Display instances from all projects
    #[arg(long)]
    pub all_projects: bool,
    /// Display instances from all remotes
    #[arg(long)]
    pub all_remotes: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = DEFAULT)]
    pub columns: String,
    /// Fast mode (same as --columns=nsacPt)
    #[arg(long)]
    pub fast: bool,
    #[command(flatten)]
    pub format: FormatOption,
}

// Flattened into every listing command; a doc comment would replace their descriptions.
#[derive(Debug, Clone, Args)]
pub struct FormatOption {
    /// Format (csv|json|table|yaml|compact|markdown), use suffix ",noheader" to disable headers and ",header" to enable it if missing, e.g. csv,header
    #[arg(short, long, value_name = "format", default_value = "table", add = ArgValueCompleter::new(complete::formats))]
    pub format: String,
}

impl FormatOption {
    /// Parses the value; to be called before anything else is done.
    ///
    /// # Errors
    /// As [`Format::parse`].
    pub fn parse(&self) -> Result<Format> {
        Format::parse(&self.format)
    }

    /// Sorts `rows` and prints them or `objects`.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print<T: Serialize + ?Sized>(
        &self,
        format: &Format,
        header: &[&str],
        mut rows: Vec<Vec<String>>,
        objects: &T,
    ) -> Outcome {
        sort_rows(&mut rows);
        print(&mut std::io::stdout().lock(), format, &Table::new(header.iter().copied(), rows), objects)?;
        Ok(DONE)
    }
}

/// What a letter of `list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Ipv4,
    Ipv6,
    Architecture,
    Pool,
    Created,
    Description,
    DiskUsage,
    Project,
    BaseImage,
    BaseImageFull,
    LastUsed,
    MemoryUsage,
    MemoryPercent,
    Name,
    Processes,
    Pid,
    Profiles,
    Remote,
    State,
    Snapshots,
    Type,
    CpuUsage,
    Started,
}

/// The letters of `list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('4', "IPV4", Cell::Ipv4),
    column('6', "IPV6", Cell::Ipv6),
    column('a', "ARCHITECTURE", Cell::Architecture),
    column('b', "STORAGE POOL", Cell::Pool),
    column('c', "CREATED AT", Cell::Created),
    column('d', "DESCRIPTION", Cell::Description),
    column('D', "DISK USAGE", Cell::DiskUsage),
    column('e', "PROJECT", Cell::Project),
    column('f', "BASE IMAGE", Cell::BaseImage),
    column('F', "BASE IMAGE", Cell::BaseImageFull),
    column('l', "LAST USED AT", Cell::LastUsed),
    column('m', "MEMORY USAGE", Cell::MemoryUsage),
    column('M', "MEMORY USAGE%", Cell::MemoryPercent),
    column('n', "NAME", Cell::Name),
    column('N', "PROCESSES", Cell::Processes),
    column('p', "PID", Cell::Pid),
    column('P', "PROFILES", Cell::Profiles),
    column('R', "REMOTE", Cell::Remote),
    column('s', "STATE", Cell::State),
    column('S', "SNAPSHOTS", Cell::Snapshots),
    column('t', "TYPE", Cell::Type),
    column('u', "CPU USAGE", Cell::CpuUsage),
    column('U', "STARTED AT", Cell::Started),
];

impl List {
    /// The columns asked for. `valid_key` says whether a configuration key exists.
    ///
    /// # Errors
    /// See [`columns::list`]; `--fast` with `--columns`.
    pub fn chosen(&self, valid_key: &dyn Fn(&str) -> bool) -> Result<Vec<Chosen<Cell>>> {
        let mut value = match (self.columns.as_str(), self.all_projects) {
            (DEFAULT, true) => DEFAULT_ALL_PROJECTS,
            (other, _) => other,
        };
        if self.fast {
            value = match value {
                DEFAULT => "nsacPt",
                DEFAULT_ALL_PROJECTS => "ensacPt",
                _ => return Err(Error::invalid("Can't specify --fast with --columns")),
            };
        }
        let with_remote = format!("R{value}");
        if self.all_remotes && [DEFAULT, DEFAULT_ALL_PROJECTS, "nsacPt", "ensacPt"].contains(&value) {
            value = &with_remote;
        }
        columns::list(&without_location(value)?, COLUMNS, valid_key)
    }

    /// Lists the instances.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let remote_given = self.filters.first().is_some_and(|f| f.ends_with(':'));
        let words = kv::skip_remote(&self.filters)?;
        if cx.project_given && self.all_projects {
            return Err(Error::invalid("Can't specify --project with --all-projects").into());
        }
        if self.all_remotes && remote_given {
            return Err(Error::invalid("Can't specify a remote with --all-remotes").into());
        }
        let chosen = self.chosen(&|key| keys::find(key).is_some())?;
        let filters = words.iter().map(|w| Filter::parse(w)).collect::<Result<Vec<_>>>()?;
        let store = cx.viewer()?;
        let projects = self.projects(cx, &store)?;
        let needs = needs(&chosen);
        // What objects have in them depends on the columns, as in Incus.
        let full = needs.state || needs.addresses || needs.snapshots;
        let as_objects = matches!(format.kind, Kind::Json | Kind::Yaml);
        let wanted = if as_objects { needs.objects() } else { needs };
        let wanted = ops::Needs { state: wanted.state || as_objects && full, ..wanted };
        // Not dropped: giving a thousand rows back piece by piece takes a tenth of the whole time, and the process ends.
        let rows = ManuallyDrop::new(ops::list(&store, &projects, &filters, wanted)?);
        if as_objects {
            let objects = ops::objects(&store, &rows, full)?;
            return self.format.print(&format, &[], Vec::new(), &objects);
        }
        let header: Vec<&str> = chosen.iter().map(Chosen::header).collect();
        let rows = rows.iter().map(|row| cells(row, &chosen, format.raw)).collect();
        self.format.print(&format, &header, rows, &())
    }

    fn projects(&self, cx: &Context, store: &Store) -> Result<Vec<ProjectName>> {
        if self.all_projects {
            return Ok(store.projects()?.into_iter().map(|(name, _)| name).collect());
        }
        Ok(vec![cx.project(store)?])
    }
}

/// A filter of the simpler listings: a word is the beginning of a name or a pattern for it, `key=value` a pattern for a
/// field.
#[derive(Debug)]
pub struct FieldFilter {
    field: String,
    wanted: Wanted,
}

impl FieldFilter {
    /// Reads a filter.
    pub fn parse(word: &str) -> Self {
        match word.split_once('=') {
            Some((field, value)) => Self { field: field.to_string(), wanted: Wanted::new(value) },
            None => Self { field: "name".to_string(), wanted: Wanted::name(word) },
        }
    }

    /// Does an object pass? `value` gives its fields.
    pub fn passes(&self, value: &dyn Fn(&str) -> Option<String>) -> bool {
        self.wanted.is(&value(&self.field).unwrap_or_default())
    }
}

/// LOCATION is a column of clusters: left out of the defaults, refused elsewhere.
fn without_location(value: &str) -> Result<String> {
    let default = |entry: &str| [DEFAULT, DEFAULT_ALL_PROJECTS].contains(&entry.strip_prefix('R').unwrap_or(entry));
    let mut entries = Vec::new();
    for entry in value.split(',') {
        if !entry.contains('.') && entry.contains('L') && !default(entry) {
            return Err(Error::invalid("Can't specify column L when not clustered"));
        }
        entries.push(if default(entry) { entry.replace('L', "") } else { entry.to_string() });
    }
    Ok(entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(words: &str) -> String {
        use clap::{FromArgMatches, Parser};
        #[derive(Debug, Parser)]
        struct Only {
            #[command(flatten)]
            list: List,
        }
        let matches =
            <Only as clap::CommandFactory>::command().get_matches_from(format!("list {words}").split_whitespace());
        let only = Only::from_arg_matches(&matches).unwrap();
        match only.list.chosen(&|_| true) {
            Ok(chosen) => chosen.iter().map(Chosen::header).collect::<Vec<_>>().join(","),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn default_columns_and_their_variants() {
        assert_eq!(headers(""), "NAME,STATE,IPV4,IPV6,TYPE,SNAPSHOTS");
        assert_eq!(headers("--all-projects"), "PROJECT,NAME,STATE,IPV4,IPV6,TYPE,SNAPSHOTS");
        assert_eq!(headers("--all-remotes"), "REMOTE,NAME,STATE,IPV4,IPV6,TYPE,SNAPSHOTS");
        assert_eq!(headers("--fast"), "NAME,STATE,ARCHITECTURE,CREATED AT,PROFILES,TYPE");
        assert_eq!(headers("--fast -c n"), "Can't specify --fast with --columns");
        assert_eq!(headers("-c nL"), "Can't specify column L when not clustered");
        assert_eq!(headers("-c n,user.L:L"), "NAME,L");
    }
}
