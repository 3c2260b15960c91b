//! The client against a server on loopback in this process that says what it is told to.

use super::*;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// What the server sends for the nth request, given that request's text; then it closes.
type Script = dyn Fn(usize, &str) -> Vec<u8> + Send + Sync;

struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

fn serve(script: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> Server {
    serve_boxed(Box::new(script))
}

fn serve_boxed(script: Box<Script>) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).unwrap() > 0 {}
            kept.lock().unwrap().push(text.clone());
            // Whoever has had enough hangs up.
            let _ = stream.write_all(&script(n, &text));
        }
    });
    Server { port, requests }
}

impl Server {
    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    fn request(&self, n: usize) -> String {
        self.requests.lock().unwrap()[n].clone()
    }
}

fn client() -> Client {
    let times = Times {
        idle: Duration::from_millis(300),
        head: Duration::from_secs(1),
        span: Duration::from_millis(400),
        least: 1000,
        backoff: Duration::from_millis(1),
        ..Times::default()
    };
    Client::new(Settings { times, ..Settings::default() })
}

fn small(server: &Server, limit: u64) -> String {
    let url = server.url("/x");
    let request = Request { method: Method::Get, url: &url, headers: &[], trust: &Trust::default() };
    match client().small(&request, limit) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => format!("{e:#}"),
    }
}

fn response(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()
}

#[test]
fn bodies_end_where_they_should() {
    let body = |head: &'static str, body: &'static str| small(&serve(move |_, _| response(head, body)), 100);
    assert_eq!(body("200 x\r\nContent-Length: 3", "abcdef"), "abc");
    assert_eq!(body("200 x\r\nTransfer-Encoding: chunked", "2;x=y\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\nrest"), "abc");
    assert_eq!(body("200 x", "abc"), "abc");
    assert!(body("200 x\r\nContent-Length: 9", "abc").ends_with("The connection ended early"));
    for bad in ["x\r\nab", "-1\r\n", "2\r\nabc\r\n0\r\n\r\n", "ffffffffffffffff\r\nab", "\r\n"] {
        let got = small(&serve(move |_, _| response("200 x\r\nTransfer-Encoding: chunked", bad)), 100);
        assert!(got.contains("The server sends a bad chunk"), "{bad:?}: {got}");
    }
    assert!(body("200 x\r\nTransfer-Encoding: chunked", "5\r\nabc").ends_with("The connection ended early"));
}

#[test]
fn endless_and_missing() {
    let endless = small(&serve(|_, _| response("200 x", &"x".repeat(1 << 20))), 1000);
    assert!(endless.ends_with("It is larger than 1000 bytes"), "{endless}");
    let missing = small(&serve(|_, _| response("404 Not Found", "")), 10);
    assert!(missing.ends_with("/x\": The server answered with status 404"), "{missing}");
    let refused = Server { port: 1, ..serve(|_, _| Vec::new()) };
    let refused = small(&refused, 10);
    assert!(refused.starts_with("Failed connecting to \"127.0.0.1:1\": Connection refused"), "{refused}");
    let rude = small(&serve(|_, _| b"SSH-2.0-x\r\n\r\n\r\n\r\n".to_vec()), 10);
    assert!(rude.ends_with("The server doesn't speak HTTP/1.1"), "{rude}");
}

#[test]
fn silence_and_dripping_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if n < 2 {
                kept.push(stream);
                continue;
            }
            std::thread::spawn(move || {
                let _ = stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 1000000\r\n\r\n");
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
    });
    let server = Server { port, requests: Arc::default() };
    let silent = small(&server, 10);
    assert!(silent.ends_with("The server doesn't answer"), "{silent}");
    let slow = small(&server, 10 << 20);
    assert!(slow.ends_with("The server sends too slowly"), "{slow}");
}

#[test]
fn redirects_keep_secrets_at_home() {
    let other = serve(|_, _| response("200 x\r\nContent-Length: 2", "ok"));
    let to = format!("302 x\r\nLocation: {}", other.url("/there"));
    let first = serve(move |n, _| if n == 0 { response("301 x\r\nLocation: /again", "") } else { response(&to, "") });
    let mut url = first.url("/x");
    url.login = Some(("user".into(), "secret".into()));
    let headers = [("Authorization", "Bearer t".to_string()), ("X-Bad", "a\r\nEvil: b".into()), ("X-Good", "c".into())];
    let request = Request { method: Method::Get, url: &url, headers: &headers, trust: &Trust::default() };
    assert_eq!(client().small(&request, 10).unwrap(), b"ok");
    assert!(first.request(0).contains("Authorization: Basic") && first.request(0).contains("Bearer t"));
    assert!(first.request(1).starts_with("GET /again HTTP/1.1\r\n") && first.request(1).contains("Bearer t"));
    let there = other.request(0);
    assert!(there.starts_with("GET /there ") && there.contains("X-Good: c"), "{there}");
    assert!(!there.contains("Authorization") && !there.contains("Evil"), "{there}");
    let circle = small(&serve(|_, _| response("302 x\r\nLocation: /x", "")), 10);
    assert!(circle.ends_with("redirects too often"), "{circle}");
}

#[test]
fn plain_requests_go_through_the_proxy() {
    let proxy = serve(|_, _| response("200 x\r\nContent-Length: 2", "ok"));
    let variable = ("http_proxy".into(), format!("http://u:p@127.0.0.1:{}", proxy.port).into());
    let settings = Settings { proxies: Proxies::new(&[variable]), ..Settings::default() };
    let url = Url::parse("http://images.invalid/x").unwrap();
    let request = Request { method: Method::Get, url: &url, headers: &[], trust: &Trust::default() };
    assert_eq!(Client::new(settings).small(&request, 10).unwrap(), b"ok");
    let seen = proxy.request(0);
    assert!(seen.starts_with("GET http://images.invalid/x HTTP/1.1\r\nHost: images.invalid\r\n"), "{seen}");
    assert!(seen.contains("Proxy-Authorization: Basic dTpw\r\n"), "{seen}");
}

#[test]
fn tls_goes_through_a_tunnel_and_is_no_text() {
    let proxy = serve(|n, _| match n {
        0 => response("200 x", ""),
        _ => response("407 x", ""),
    });
    let variable = ("https_proxy".into(), format!("127.0.0.1:{}", proxy.port).into());
    let settings = Settings { proxies: Proxies::new(&[variable]), times: *client().times(), ..Settings::default() };
    let client = Client::new(settings);
    let url = Url::parse("https://images.invalid/x").unwrap();
    let closed = client.certificate(&url).unwrap_err();
    assert!(format!("{closed:#}").starts_with("Failed connecting to \"images.invalid:443\": "), "{closed:#}");
    assert!(proxy.request(0).starts_with("CONNECT images.invalid:443 HTTP/1.1\r\n"), "{}", proxy.request(0));
    let wants = client.certificate(&url).unwrap_err();
    assert!(format!("{wants:#}").ends_with("It wants a user and a password"), "{wants:#}");
}

const TEXT: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

fn download(server: &Server, size: u64, part: Option<&str>) -> String {
    use sha2::{Digest, Sha256};
    let sha256 = Sha256::digest(TEXT).iter().map(|b| format!("{b:02x}")).collect();
    let part = part.map(|text| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    });
    let (client, trust) = (client(), Trust::default());
    let mut reader = Download::new(&client, server.url("/f"), &trust, Expected { size, hash: sha256 }, part);
    let mut text = String::new();
    match reader.read_to_string(&mut text).map_err(io_error) {
        Ok(_) => text,
        Err(e) => format!("{e:#}"),
    }
}

/// Answers ranges; breaks off after `most` bytes.
fn ranged(text: &'static str, most: usize, etag: impl Fn(usize) -> String + Send + Sync + 'static) -> Server {
    serve(move |n, request| {
        let from =
            request.split_once("Range: bytes=").map_or(0, |(_, r)| r.split('-').next().unwrap().parse().unwrap());
        let rest = &text[from..];
        let head = match from {
            0 => format!("200 x\r\nETag: {}\r\nContent-Length: {}", etag(n), rest.len()),
            _ => format!(
                "206 x\r\nETag: {}\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}",
                etag(n),
                text.len() - 1,
                text.len(),
                rest.len()
            ),
        };
        response(&head, &rest[..rest.len().min(most)])
    })
}

#[test]
fn a_broken_download_goes_on() {
    let server = ranged(TEXT, 10, |_| "\"a\"".into());
    assert_eq!(download(&server, 36, None), TEXT);
    assert!(server.request(1).contains("Range: bytes=10-\r\nIf-Range: \"a\"\r\n"), "{}", server.request(1));
    let server = ranged(TEXT, 100, |_| "\"a\"".into());
    assert_eq!(download(&server, 36, Some(&TEXT[..20])), TEXT);
    assert!(server.request(0).contains("Range: bytes=20-\r\n"), "{}", server.request(0));
    // A server without ranges, and one that is out of order for a moment.
    assert_eq!(download(&serve(|_, _| response("200 x\r\nContent-Length: 36", TEXT)), 36, Some(&TEXT[..20])), TEXT);
    let tired = serve(|n, _| match n {
        0 | 1 => response("503 x", ""),
        _ => response("200 x", TEXT),
    });
    assert_eq!(download(&tired, 36, None), TEXT);
}

#[test]
fn lies_about_a_file_are_told() {
    let says = |head: &'static str, body: &'static str| download(&serve(move |_, _| response(head, body)), 36, None);
    assert!(says("200 x\r\nContent-Length: 35", &TEXT[1..]).ends_with("not the announced size of 36 bytes"));
    assert!(says("200 x", "0123456789abcdefghijklmnopqrstuvwxy?").starts_with("Hash mismatch for \"http://127.0.0.1:"));
    assert!(says("200 x", &TEXT[..30]).ends_with("The file is shorter than announced"));
    assert!(
        says("200 x", "0123456789abcdefghijklmnopqrstuvwxyz and more").ends_with("The file is longer than announced")
    );
    assert!(says("404 x", "").ends_with("The server answered with status 404"));
    assert!(says("206 x\r\nContent-Range: bytes 0-35/36", TEXT).ends_with("a part that was not asked for"));
    let broken = says("500 x", "");
    assert!(broken.ends_with("The server answered with status 500"), "{broken}");
    // A part that is not of this file.
    let poisoned = download(&ranged(TEXT, 100, |_| "\"a\"".into()), 36, Some("xxx"));
    assert!(poisoned.starts_with("Hash mismatch"), "{poisoned}");
    let wrong = serve(|_, _| response("206 x\r\nContent-Range: bytes 4-35/36", &TEXT[4..]));
    assert!(download(&wrong, 36, Some(&TEXT[..3])).ends_with("another part than was asked for"));
}
