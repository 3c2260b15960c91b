//! `query`: reads and changes objects by the addresses of Incus's API.

use super::{Context, DONE, Outcome, kv};
use crate::base::time;
use crate::error::{Context as _, Error, Result};
use crate::ops::query as ops;
use crate::ops::query_change::{self, Done};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

/// Send a raw query to the server
///
/// There is no server: the objects are there in the form of Incus's API, and what can be done to most of them. All is done when the
/// command ends; what would be an operation of a server's is one that is over.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stapes query /1.0/instances/web/state
      Show the state of the instance \"web\" as JSON.

  stapes query '/1.0/images?recursion=1'
      Show all images.

  stapes query -X PUT -d '{\"action\": \"stop\"}' --wait /1.0/instances/web/state
      Stop the instance \"web\".")]
pub struct Query {
    /// Address
    #[arg(value_name = "API path")]
    pub path: String,
    /// Action
    #[arg(short = 'X', long, value_name = "action", default_value = "GET")]
    pub request: String,
    /// Input data
    #[arg(short, long, value_name = "data")]
    pub data: Option<String>,
    /// File with input data; - is standard input
    #[arg(long, value_name = "file", conflicts_with = "data", value_hint = clap::ValueHint::FilePath)]
    pub data_file: Option<String>,
    /// Wait for the operation to complete
    #[arg(long)]
    pub wait: bool,
    /// Print the raw response
    #[arg(long)]
    pub raw: bool,
}

/// What surrounds an object in the API.
#[derive(Serialize)]
struct Response {
    r#type: &'static str,
    status: &'static str,
    status_code: u16,
    operation: String,
    error_code: u16,
    error: &'static str,
    metadata: Value,
}

impl Query {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        if !["GET", "PUT", "POST", "PATCH", "DELETE"].contains(&self.request.as_str()) {
            return Err(Error::invalid(format!("Action {:?} isn't supported by this tool", self.request)).into());
        }
        let path = match self.path.split_once(':') {
            Some((remote, path)) if !remote.contains('/') => {
                kv::local(&format!("{remote}:x"))?;
                path
            }
            _ => self.path.as_str(),
        };
        if !path.starts_with('/') {
            return Err(Error::invalid("Query path must start with /").into());
        }
        let uid = nix::unistd::geteuid().as_raw();
        let (metadata, operation) = if self.request == "GET" {
            let store = cx.reader()?;
            (ops::get(&store, &ops::Request { address: path, project: &cx.project(&store)?, uid })?, None)
        } else {
            let store = cx.store()?;
            let project = cx.project(&store)?;
            let request = ops::Request { address: path, project: &project, uid };
            match query_change::change(&store, &request, &self.request, &self.body()?)? {
                Done::At => (Value::Null, None),
                Done::Operation => {
                    let id = uuid::Uuid::new_v4().to_string();
                    (over(&id, path), Some(format!("/1.0/operations/{id}")))
                }
            }
        };
        // Who waits is told of the operation itself.
        let sync = operation.is_none() || self.wait;
        match (self.raw, metadata.is_null()) {
            (true, _) => cx.line(indented(&Response {
                r#type: if sync { "sync" } else { "async" },
                status: if sync { "Success" } else { "Operation created" },
                status_code: if sync { 200 } else { 100 },
                operation: operation.filter(|_| !sync).unwrap_or_default(),
                error_code: 0,
                error: "",
                metadata,
            })?)?,
            (false, true) => {}
            (false, false) => cx.line(indented(&metadata)?)?,
        }
        Ok(DONE)
    }

    /// The data, which are JSON.
    fn body(&self) -> Result<Value> {
        let text = match (&self.data, self.data_file.as_deref()) {
            (Some(data), _) => data.clone(),
            (None, Some("-")) => std::io::read_to_string(std::io::stdin()).context("Failed reading the data")?,
            (None, Some(file)) => {
                let fail = || format!("Failed to open input file {file:?}");
                std::fs::read_to_string(file).with_context(fail)?
            }
            (None, None) => return Ok(Value::Null),
        };
        serde_json::from_str(&text).map_err(|e| Error::invalid("The data are no JSON").caused_by(e))
    }
}

/// An operation that is over.
fn over(id: &str, path: &str) -> Value {
    let now = time::rfc3339(Some(time::now()));
    serde_json::json!({
        "id": id,
        "class": "task",
        "description": path,
        "created_at": now,
        "updated_at": now,
        "status": "Success",
        "status_code": 200,
        "resources": {},
        "metadata": null,
        "may_cancel": false,
        "err": "",
        "location": "none",
    })
}

fn indented(value: &impl Serialize) -> Result<String> {
    let fail = |e: serde_json::Error| Error::internal("Failed writing JSON").caused_by(e);
    let mut out = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, form)).map_err(fail)?;
    String::from_utf8(out).map_err(|_| Error::internal("Failed writing JSON"))
}
