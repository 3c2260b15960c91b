//! Forms of images that are rarer: digests with sha512, compressed archives of layouts, identity tokens.

use super::image_server::{Server, URL};
use super::oci_common::{layout_by, registry, sha256, sha512};
use super::servers::have;
use super::{CONFIG, Packing, State, add, busybox, different, example, layers, rootfs, served, support, tamper};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

/// As `umoci insert` makes layers: the end of the archive is not there, not even that of the last block.
#[test]
fn layers_without_an_end() {
    let Some((state, _)) = served("layers_without_an_end") else { return };
    let all = layers(&busybox());
    let cut = all.clone().map(|mut layer| {
        let end = layer.iter().rposition(|b| *b != 0).unwrap();
        layer.truncate(end + 1);
        layer
    });
    let make = |name: &str, all: &[Vec<u8>; 3]| {
        let [a, b, c] = all;
        let dir = state.path().join(name);
        super::oci_common::layout(&dir, &[(a, Packing::Gzip), (b, Packing::Plain), (c, Packing::Zstd)], CONFIG);
        rootfs(&state, &state.import(&[dir.to_str().unwrap()]))
    };
    assert_eq!(different(&make("whole", &all), &make("cut", &cut)), [""; 0]);
    // What lacks more than its end is not whole.
    let mut short = cut.clone();
    let half = short[0].len() / 2;
    short[0].truncate(half);
    let dir = state.path().join("short");
    let [a, b, c] = &short;
    super::oci_common::layout(&dir, &[(a, Packing::Gzip), (b, Packing::Plain), (c, Packing::Zstd)], CONFIG);
    assert!(state.bad(&["image", "import", dir.to_str().unwrap()]).contains("truncated"));
}

#[test]
fn digests_with_sha512() {
    let Some((state, plain)) = served("digests_with_sha512") else { return };
    let [a, b, c] = layers(&busybox());
    let dir = state.path().join("long");
    let image = layout_by(sha512, &dir, &[(&a, Packing::Gzip), (&b, Packing::Plain), (&c, Packing::Zstd)], CONFIG);
    assert!(image.layers.iter().chain([&image.manifest]).all(|digest| digest.starts_with("sha512:")));
    // Of a layout: the same tree as by the other digests.
    let known = state.import(&[state.path().join("layout").to_str().unwrap()]);
    assert_eq!(known, plain.fingerprint());
    let fingerprint = state.import(&[dir.to_str().unwrap(), "--alias", "long"]);
    assert_eq!(fingerprint, image.fingerprint());
    let roots = [&fingerprint, &known].map(|print| rootfs(&state, print));
    assert_eq!(different(&roots[0], &roots[1]), [""; 0]);
    state.good(&["image", "delete", "long", &known]);
    // Of a registry: by tag, by the manifest's digest, and what was broken off.
    let www = state.path().join("www");
    std::fs::remove_dir_all(&www).unwrap();
    registry(&dir, &image, &www, ("test/app", "latest"));
    add(&state);
    let server = Server::start(state.path(), "");
    let by_digest = format!("reg:test/app@{}", image.manifest);
    state.good(&["image", "copy", &by_digest, "local:", "--alias", "long"]);
    assert!(state.good(&["image", "info", "long"]).contains(&format!("Fingerprint: {fingerprint}\n")));
    state.good(&["image", "delete", "long"]);
    server.requests();
    state.good(&["launch", "reg:test/app", "c1"]);
    assert!(!server.requests().iter().any(|line| line.contains(&image.layers[0])), "the layers are here");
    state.good(&["exec", "c1", "--", "/bin/busybox", "true"]);
    state.good(&["delete", "-f", "c1"]);
    state.good(&["image", "delete", &fingerprint]);
    // None of them is believed.
    let refused = |what: &str, change: &dyn Fn(), says: &str| {
        let _ = std::fs::remove_dir_all(state.path().join("cache/blobs"));
        registry(&dir, &image, &www, ("test/app", "latest"));
        change();
        let error = state.bad(&["image", "copy", &by_digest, "local:"]);
        assert!(error.contains(says) && error.contains(&image.layers[0][..7]), "{what}: {error}");
    };
    let blob = |digest: &str| www.join("v2/test/app/blobs").join(digest);
    let zeros = |path: &Path| std::fs::write(path, vec![0; path.metadata().unwrap().len() as usize]).unwrap();
    refused("manifest", &|| tamper(&www.join("v2/test/app/manifests").join(&image.manifest), "2", "3"), "mismatch");
    refused("configuration", &|| tamper(&blob(&image.config), "linux", "linuz"), "mismatch");
    refused("layer", &|| zeros(&blob(&image.layers[0])), "mismatch");
    // Uncompressed it is another one; and both kinds in one image.
    let lie = |data: &[u8]| {
        let packed = data.starts_with(b"\x1f\x8b") || data.starts_with(b"{");
        sha512(if packed { data } else { b"other" })
    };
    let dir = state.path().join("lie");
    layout_by(lie, &dir, &[(&a, Packing::Gzip)], CONFIG);
    assert!(state.bad(&["image", "import", dir.to_str().unwrap()]).contains("Hash mismatch: sha512:"));
    let both = |data: &[u8]| if data.starts_with(b"{\"created") { sha256(data) } else { sha512(data) };
    let dir = state.path().join("both");
    let other = layout_by(both, &dir, &[(&a, Packing::Gzip)], CONFIG);
    assert!(other.config.starts_with("sha256:"));
    state.import(&[dir.to_str().unwrap()]);
    state.assert_clean();
}

/// Archives a folder with a program's options.
fn archive(dir: &Path, to: &Path, options: &[&str]) {
    let mut tar = Command::new("tar");
    tar.args(options).arg("-cf").arg(to).arg("-C").arg(dir).arg(".");
    assert!(tar.status().unwrap().success());
}

#[test]
fn compressed_archives_of_layouts() {
    const NAME: &str = "compressed_archives_of_layouts";
    if !have(NAME, &["gzip", "zstd", "xz"]) {
        return;
    }
    let state = State::new();
    let dir = state.path().join("layout");
    let image = example(&dir);
    let word = |name: &str| format!("oci:{}:latest", state.path().join(name).display());
    for (name, option) in [("l.tar.gz", "--gzip"), ("l.tar.zst", "--zstd"), ("l.tar.xz", "--xz")] {
        archive(&dir, &state.path().join(name), &[option]);
        assert_eq!(state.import(&[&word(name), "--alias", "img"]), image.fingerprint(), "{name}");
        state.good(&["launch", "img", "c1"]);
        state.good(&["exec", "c1", "--", "/bin/busybox", "true"]);
        state.good(&["delete", "-f", "c1"]);
        state.good(&["image", "delete", "img"]);
    }
    // Named by its layout, an instance is made of it at once; the next one of what is here by then.
    state.good(&["launch", &word("layout"), "c1"]);
    state.good(&["create", &word("l.tar.gz"), "c2"]);
    assert!(state.good(&["image", "info", &image.fingerprint()]).contains("Cached: yes\n"));
    assert_eq!(state.good(&["image", "list", "-f", "csv"]).lines().count(), 1);
    assert!(state.bad(&["create", "oci:/nowhere:latest", "c3"]).contains("/nowhere"));
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["image", "delete", &image.fingerprint()]);
    let before = state.listing();
    let packed = std::fs::read(state.path().join("l.tar.gz")).unwrap();
    state.file("short.tar.gz", &packed[..packed.len() / 2]);
    assert!(state.bad(&["image", "import", &word("short.tar.gz")]).contains("Failed decompressing the archive"));
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(400 << 20), &mut bomb).unwrap();
    state.file("bomb.tar.gz", &bomb.finish().unwrap());
    assert!(state.bad(&["image", "import", &word("bomb.tar.gz")]).contains("The archive grows to over"));
    state.file("other.tar.gz", b"PK");
    assert!(state.bad(&["image", "import", &word("other.tar.gz")]).contains("it is no tar archive"));
    assert_eq!(state.listing(), before);
    state.assert_clean();
}

const SECRET: &str = "id/en+ti ty=1";

/// A token server behind the web server: gives out the forms it gets, answers those with the right secret.
fn token_server() -> mpsc::Receiver<String> {
    let listener = TcpListener::bind("127.0.0.1:9000").unwrap();
    let (sender, forms) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut text, mut block) = (String::new(), [0; 4096]);
            let whole = |text: &str| {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                (body.len() >= length.unwrap_or(0)).then(|| body.to_string())
            };
            while whole(&text).is_none() {
                let n = stream.read(&mut block).unwrap();
                text += std::str::from_utf8(&block[..n]).unwrap();
                if n == 0 {
                    return;
                }
            }
            let form = whole(&text).unwrap();
            let good = text.starts_with("POST ")
                && text.to_lowercase().contains("content-type: application/x-www-form-urlencoded\r\n")
                && form.split('&').any(|pair| pair == "refresh_token=id/en%2Bti%20ty%3D1");
            let (status, body) = match good {
                true => ("200 OK", r#"{"access_token": "sesame", "refresh_token": "another"}"#),
                false => ("401 Unauthorized", "{}"),
            };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            if sender.send(format!("{} {form}", text.split(' ').next().unwrap())).is_err() {
                return;
            }
        }
    });
    forms
}

#[test]
fn identity_tokens_buy_tokens() {
    let Some((state, _)) = served("identity_tokens_buy_tokens") else { return };
    add(&state);
    let script = format!("#!/bin/sh\necho '{{\"Username\":\"<token>\",\"Secret\":\"{SECRET}\"}}'\n");
    let helper = state.file("helper", script.as_bytes());
    assert!(Command::new("chmod").arg("+x").arg(&helper).status().unwrap().success());
    let add_helped = ["remote", "add", "helped", URL, "--protocol", "oci", "--credentials-helper"];
    state.good(&[&add_helped[..], &[helper.to_str().unwrap()]].concat());
    // "<token>:" stands where others have user and password.
    let auth = |token: &str| {
        let text =
            format!(r#"{{"auths": {{"localhost:8443": {{"auth": "PHRva2VuPjo=", "identitytoken": "{token}"}}}}}}"#);
        state.file("auth.json", text.as_bytes())
    };
    let copy = |remote: &str, auths: &Path| {
        let _ = std::fs::remove_dir_all(state.path().join("cache/blobs"));
        let mut command = state.command(&["image", "copy", &format!("{remote}:test/app"), "local:", "--alias", "img"]);
        let out = command.env("REGISTRY_AUTH_FILE", auths).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!error.contains("en+ti") && !error.contains("en%2Bti"), "the secret is shown: {error}");
        if out.status.success() {
            state.good(&["image", "delete", "img"]);
        }
        (out.status.success(), error)
    };
    let forms = token_server();
    let guard = format!(
        "location /v2/ {{ if ($http_authorization != \"Bearer sesame\") {{ return 401; }} }}\n\
         add_header WWW-Authenticate 'Bearer realm=\"{URL}/token\",service=\"a b\",scope=\"all\"' always;\n\
         location = /token {{ proxy_pass http://127.0.0.1:9000; }}"
    );
    let server = Server::start(state.path(), &guard);
    let want = "POST grant_type=refresh_token&client_id=stapes&scope=repository:test/app:pull&service=a%20b\
                &refresh_token=id/en%2Bti%20ty%3D1";
    for (remote, token) in [("reg", SECRET), ("helped", "")] {
        assert_eq!(copy(remote, &auth(token)), (true, String::new()), "{remote}");
        assert_eq!(forms.try_iter().collect::<Vec<_>>(), [want], "{remote}");
    }
    let (good, error) = copy("reg", &auth("other"));
    assert!(!good && error.contains("/token\": The server answered with status 401"), "{error}");
    drop(server);
    // Elsewhere it is not taken to, and it is no password.
    let elsewhere = guard.replace("proxy_pass http://127.0.0.1:9000;", "return 307 https://localhost:8443/other;");
    let server = Server::start(state.path(), &elsewhere);
    let (good, error) = copy("helped", &auth(""));
    assert!(!good && error.contains("status 307"), "{error}");
    assert!(!server.requests().iter().any(|line| line.contains("/other")));
    drop(server);
    let basic = "location /v2/ { return 401; }\nadd_header WWW-Authenticate 'Basic realm=\"x\"' always;";
    let server = Server::start(state.path(), basic);
    let (good, error) = copy("helped", &auth(""));
    assert!(!good && error.contains("The registry wants a user and a password"), "{error}");
    assert_eq!(server.requests().len(), 1, "nobody was told");
    assert!(forms.try_recv().is_ok(), "the wrong one was tried");
    assert!(forms.try_recv().is_err());
    support::one_error(&state.run(&["image", "info", "reg:test/app"]), &["info"]);
    state.assert_clean();
}
