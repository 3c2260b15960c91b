//! `config.json` of an OCI image: a runtime specification (runtime-spec 1.0) with what the image says of its process, as umoci makes
//! it and Incus reads it. Host-side settings (capabilities, mounts, namespaces) are no image's business and are left out.

use super::document::Config;
use super::user::User;
use crate::error::{Error, Result};
use crate::image::METADATA_MAX;
use serde_json::{Value, json};

/// The annotation with the signal that ends the process.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
/// What a process has unless the image says otherwise, as with umoci.
const ENVIRONMENT: [&str; 2] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"];

/// The file's text.
///
/// # Errors
/// Invalid: it gets too large.
pub fn text(config: &Config, user: &User) -> Result<String> {
    let args = if config.args.is_empty() { vec!["sh".to_string()] } else { config.args.clone() };
    let mut annotations = serde_json::Map::new();
    if !config.stop_signal.is_empty() {
        annotations.insert(STOP_SIGNAL.to_string(), Value::from(config.stop_signal.as_str()));
    }
    let mut ids = json!({"uid": user.uid, "gid": user.gid});
    if !user.groups.is_empty() {
        ids["additionalGids"] = Value::from(user.groups.clone());
    }
    let bundle = json!({
        "ociVersion": "1.0.0",
        "process": {
            "terminal": true,
            "user": ids,
            "args": args,
            "env": environment(&config.env, &user.home),
            "cwd": config.cwd,
        },
        "root": {"path": "rootfs"},
        "mounts": [],
        "annotations": annotations,
    });
    let text = format!("{bundle:#}\n");
    match text.len() as u64 > METADATA_MAX {
        true => Err(Error::invalid("Bad image: its configuration is too large")),
        false => Ok(text),
    }
}

/// The last value of a name counts, at the place of the first.
fn environment(own: &[String], home: &str) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_string();
    let mut all: Vec<String> = ENVIRONMENT.map(String::from).to_vec();
    for entry in own.iter().filter(|entry| !entry.is_empty() && !entry.starts_with('=')) {
        match all.iter().position(|known| name(known) == name(entry)) {
            Some(at) => all[at].clone_from(entry),
            None => all.push(entry.clone()),
        }
    }
    if !all.iter().any(|entry| entry.starts_with("HOME=")) {
        all.push(format!("HOME={home}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_says_of_its_process() {
        let text_of = |more: &str| {
            let image = format!(r#"{{"os": "linux", "architecture": "amd64", "config": {{{more}}}}}"#);
            let config = super::super::document::config(image.as_bytes()).expect("good");
            let user = User { uid: 7, gid: 8, groups: vec![9], home: "/h".into() };
            serde_json::from_str::<Value>(&text(&config, &user).expect("text")).expect("JSON")
        };
        let value = text_of(
            r#""Cmd": ["a b"], "Env": ["PATH=/x", "A=1", "A=2", ""], "StopSignal": "SIGQUIT", "Volumes": {"/v": {}}"#,
        );
        assert_eq!(value["process"]["env"], json!(["PATH=/x", "TERM=xterm", "A=2", "HOME=/h"]));
        assert_eq!(value["process"]["user"], json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
        assert_eq!((&value["process"]["args"], &value["mounts"]), (&json!(["a b"]), &json!([])));
        assert_eq!(value["annotations"], json!({STOP_SIGNAL: "SIGQUIT"}));
        assert_eq!(text_of("")["process"]["args"], json!(["sh"]));
        // What makes instances of it reads it.
        crate::image::bundle::Bundle::parse(value.to_string().as_bytes()).expect("sound");
    }
}
