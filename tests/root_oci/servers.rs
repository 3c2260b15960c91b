//! Debian's docker-registry on loopback of the test's network, behind the web server of `image_server`; skopeo fills it.

use crate::common_root;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ADDRESS: &str = "127.0.0.1:5000";
/// For the server block: what is asked for goes to the registry.
pub const PROXY: &str = "location /v2/ { proxy_pass http://127.0.0.1:5000; proxy_set_header Host $http_host; \
    proxy_set_header X-Forwarded-Proto https; proxy_buffering off; }";

/// False, and said so, if the host has not what it takes.
pub fn have(test: &str, programs: &[&str]) -> bool {
    if !common_root::can_run(test) {
        return false;
    }
    let missing = programs.iter().find(|program| !common_root::have(program));
    if let Some(program) = missing {
        common_root::skip(test, &format!("the program \"{program}\" is missing"));
    }
    missing.is_none()
}

/// A running registry. Dropping it ends it.
#[derive(Debug)]
pub struct DockerRegistry(Child);

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl DockerRegistry {
    /// Keeps its images in `dir/registry`.
    pub fn start(dir: &Path) -> Self {
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}/registry\nhttp:\n  addr: {ADDRESS}\n",
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(ADDRESS).is_err() {
            assert!(Instant::now() < end, "docker-registry doesn't listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        registry
    }
}

/// Pushes the image of a layout, as it is.
pub fn push(layout: &Path, name: &str) {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
    command.arg(format!("oci:{}:latest", layout.display())).arg(format!("docker://{ADDRESS}/{name}"));
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
