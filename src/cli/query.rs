//! `query`: reads objects by the addresses of Incus's API.

use super::{Context, DONE, Outcome, kv};
use crate::error::{Error, Result};
use crate::ops::query as ops;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

/// Send a raw query to the server
///
/// There is no server: what is read by GET is there, in the form of Incus's API. What changes something has a command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stapes query /1.0/instances/web/state
      Show the state of the instance \"web\" as JSON.

  stapes query '/1.0/images?recursion=1'
      Show all images.")]
pub struct Query {
    /// Address
    #[arg(value_name = "API path")]
    pub path: String,
    /// Action
    #[arg(short = 'X', long, value_name = "action", default_value = "GET")]
    pub request: String,
    /// Input data
    #[arg(short, long, value_name = "data", hide = true)]
    pub data: Option<String>,
    /// Wait for the operation to complete
    #[arg(long, hide = true)]
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
    operation: &'static str,
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
        if self.request != "GET" || self.data.is_some() {
            let error = Error::unsupported("Only objects can be read by their addresses (GET)");
            return Err(error.hint("use the command that changes it").into());
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
        let store = cx.reader()?;
        let uid = nix::unistd::geteuid().as_raw();
        let metadata = ops::get(&store, &ops::Request { address: path, project: &cx.project(&store)?, uid })?;
        let text = match self.raw {
            true => indented(&Response {
                r#type: "sync",
                status: "Success",
                status_code: 200,
                operation: "",
                error_code: 0,
                error: "",
                metadata,
            })?,
            false => indented(&metadata)?,
        };
        cx.line(text)?;
        Ok(DONE)
    }
}

fn indented(value: &impl Serialize) -> Result<String> {
    let fail = |e: serde_json::Error| Error::internal("Failed writing JSON").caused_by(e);
    let mut out = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, form)).map_err(fail)?;
    String::from_utf8(out).map_err(|_| Error::internal("Failed writing JSON"))
}
