//! A server of images as users meet them: a simplestreams tree behind nginx, over https with an authority of its own, on
//! loopback of the network that the calling thread is in.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: its files are no records")]

use super::common_root;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where it listens; each thread of tests has a network of its own.
pub const URL: &str = "https://localhost:8443";
const PROGRAMS: [&str; 2] = ["nginx", "openssl"];

/// False, and said so, if the host has not what it takes.
pub fn can_serve(test: &str) -> bool {
    let missing = PROGRAMS.iter().find(|program| !common_root::have(program));
    if let Some(program) = missing {
        common_root::skip(test, &format!("the program \"{program}\" is missing"));
    }
    missing.is_none()
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    nginx: Child,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

fn openssl(dir: &Path, words: &str) {
    let mut command = Command::new("openssl");
    command.args(words.split(' ')).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "openssl {words}");
}

/// Makes `ca.crt`, the certificate `server.crt` of localhost that it signed, and `other.crt`, of another host.
pub fn certificates(dir: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=Tests"));
    for (name, host) in [("server", "localhost"), ("other", "other.example")] {
        openssl(dir, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={host}"));
        std::fs::write(dir.join("san"), format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n")).unwrap();
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out {name}.crt"
            ),
        );
    }
}

impl Server {
    /// Serves `dir/www` with the certificates of `dir`; `more` goes into nginx's server block.
    pub fn start(dir: &Path, more: &str) -> Self {
        Self::with_certificate(dir, "server", more)
    }

    /// [`Server::start`] with another certificate.
    pub fn with_certificate(dir: &Path, certificate: &str, more: &str) -> Self {
        // Several may serve the same tree, each in its network.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::SeqCst);
        let own = |name: &str| dir.join(format!("nginx-{n}.{name}"));
        let (config_file, errors, log) = (own("conf"), own("errors"), own("access"));
        let at = dir.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/nginx-temporary;\n"))
            .concat();
        let config = format!(
            "daemon off; user root; master_process off; pid {at}/nginx-{n}.pid; error_log {at}/nginx-{n}.errors;\nevents {{}}\n\
             http {{\naccess_log {at}/nginx-{n}.access;\n{temporary}\
             server {{\nlisten 127.0.0.1:8443 ssl; ssl_certificate {at}/{certificate}.crt; \
             ssl_certificate_key {at}/{certificate}.key; root {at}/www; etag on;\n{more}\n}}\n}}\n"
        );
        std::fs::write(&config_file, config).unwrap();
        std::fs::write(&log, "").unwrap();
        let mut nginx = Command::new("nginx");
        nginx.arg("-e").arg(&errors).arg("-c").arg(&config_file);
        let nginx = nginx.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { nginx, log };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", 8443)).is_err() {
            assert!(Instant::now() < end, "nginx: {}", std::fs::read_to_string(&errors).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// What was asked for since the last call: `GET /path 200`.
    pub fn requests(&self) -> Vec<String> {
        // Written when the response is out.
        std::thread::sleep(Duration::from_millis(50));
        let text = std::fs::read_to_string(&self.log).unwrap();
        std::fs::OpenOptions::new().write(true).open(&self.log).unwrap().set_len(0).unwrap();
        let line = |line: &str| {
            let mut parts = line.split('"').skip(1);
            let request = parts.next()?.trim_end_matches(" HTTP/1.1").to_string();
            Some(format!("{request} {}", parts.next()?.split_whitespace().next()?))
        };
        text.lines().filter_map(line).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hex(&hash.finalize())
}

/// One version of the image `test/1` in a tree: its serial (`20260101_00:00`), metadata and root file system.
pub struct Version<'a> {
    pub serial: &'a str,
    pub meta: &'a [u8],
    pub root: &'a [u8],
    /// `squashfs`, `root.tar.xz` or `disk-kvm.img`.
    pub ftype: &'a str,
}

impl Version<'_> {
    pub fn fingerprint(&self) -> String {
        sha256(&[self.meta, self.root])
    }

    /// Its files in the tree.
    pub fn paths(&self) -> [String; 2] {
        let folder = self.serial.replace(':', "-");
        [format!("images/{folder}/incus.tar.xz"), format!("images/{folder}/rootfs")]
    }
}

/// Writes `dir/www` anew with these versions.
pub fn tree(dir: &Path, versions: &[Version<'_>]) {
    let www = dir.join("www");
    let _ = std::fs::remove_dir_all(&www);
    std::fs::create_dir_all(www.join("streams/v1")).unwrap();
    let mut all = Vec::new();
    for version in versions {
        let [meta, root] = version.paths();
        std::fs::create_dir_all(www.join(&meta).parent().unwrap()).unwrap();
        std::fs::write(www.join(&meta), version.meta).unwrap();
        std::fs::write(www.join(&root), version.root).unwrap();
        let key = match version.ftype {
            "squashfs" => "combined_squashfs_sha256",
            "disk-kvm.img" => "combined_disk-kvm-img_sha256",
            _ => "combined_rootxz_sha256",
        };
        all.push(format!(
            r#""{}": {{"items": {{
                "a": {{"ftype": "incus.tar.xz", "path": "{meta}", "size": {}, "sha256": "{}", "{key}": "{}"}},
                "b": {{"ftype": "{}", "path": "{root}", "size": {}, "sha256": "{}"}}}}}}"#,
            version.serial,
            version.meta.len(),
            sha256(&[version.meta]),
            version.fingerprint(),
            version.ftype,
            version.root.len(),
            sha256(&[version.root]),
        ));
    }
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let product = format!(
        r#"{{"content_id": "images", "datatype": "image-downloads", "format": "products:1.0", "products": {{
            "test:1:{arch}:default": {{"aliases": "test/1,test", "arch": "{arch}", "os": "Test", "release": "one",
                "release_title": "One", "variant": "default", "versions": {{{}}}}}}}}}"#,
        all.join(",")
    );
    std::fs::write(www.join("streams/v1/images.json"), product).unwrap();
    let index = r#"{"format": "index:1.0", "index": {"images": {"datatype": "image-downloads",
        "path": "streams/v1/images.json", "format": "products:1.0", "products": ["test:1"]}}}"#;
    std::fs::write(www.join("streams/v1/index.json"), index).unwrap();
}

/// `dir/rootfs.squashfs` with something more in it.
pub fn grown_squashfs(dir: &Path) -> Vec<u8> {
    let script = "set -e; rm -rf grown grown.squashfs; mkdir grown; echo grown > grown/grown; \
         cp rootfs.squashfs grown.squashfs; mksquashfs grown grown.squashfs -quiet -no-progress -no-duplicates";
    let done = Command::new("sh").arg("-c").arg(script).current_dir(dir).stdout(Stdio::null()).status().unwrap();
    assert!(done.success());
    std::fs::read(dir.join("grown.squashfs")).unwrap()
}

/// What makes `new` of `old`, as xdelta3 writes it with further options.
pub fn difference(dir: &Path, old: &[u8], new: &[u8], options: &[&str]) -> Vec<u8> {
    let [old_file, new_file, out] = ["delta.old", "delta.new", "delta.out"].map(|name| dir.join(name));
    std::fs::write(&old_file, old).unwrap();
    std::fs::write(&new_file, new).unwrap();
    let mut xdelta = Command::new("xdelta3");
    xdelta.args(["-e", "-f", "-q", "-s"]).arg(old_file).args(options).arg(new_file).arg(&out);
    assert!(xdelta.status().unwrap().success());
    std::fs::read(out).unwrap()
}

/// Adds to the newest version of `dir/www` what makes it of the version `base`; its path there.
pub fn add_difference(dir: &Path, base: &str, data: &[u8]) -> String {
    let www = dir.join("www");
    let path = "images/delta.vcdiff".to_string();
    std::fs::write(www.join(&path), data).unwrap();
    let list = www.join("streams/v1/images.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&list).unwrap()).unwrap();
    let product = value["products"].as_object_mut().unwrap().values_mut().next().unwrap();
    let (_, version) = product["versions"].as_object_mut().unwrap().iter_mut().next_back().unwrap();
    version["items"]["delta"] = serde_json::json!({
        "ftype": "squashfs.vcdiff", "delta_base": base, "path": path, "size": data.len(), "sha256": sha256(&[data]),
    });
    std::fs::write(list, value.to_string()).unwrap();
    path
}
