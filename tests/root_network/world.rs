//! A world around the host of a test, which is the network namespace the test left the machine's network for: a neighbour with
//! a web server, reached through an interface of the host.

use crate::common_root::{State, on};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The host's address towards the world, and the world's.
pub const HOST: &str = "203.0.113.1";
pub const OUTSIDE: &str = "203.0.113.2";

/// The outside. It ends with this.
pub struct World {
    space: Child,
    server: Child,
}

/// Runs a command of the host, which must succeed; its output.
pub fn host(words: &str) -> String {
    host_try(words).unwrap_or_else(|e| panic!("{words}: {e}"))
}

/// The same, which may fail; then its complaint.
pub fn host_try(words: &str) -> Result<String, String> {
    let mut parts = words.split_whitespace();
    let out = Command::new(parts.next().unwrap()).args(parts).output().unwrap();
    match out.status.success() {
        true => Ok(String::from_utf8(out.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

impl World {
    /// Its web server says whom it sees (`/cgi-bin/who`).
    pub fn new(state: &State) -> Self {
        let space = Command::new("unshare").args(["-n", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", space.id());
        while std::fs::read_link(&theirs).is_ok_and(|ns| ns == own) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        host(&format!("ip link add up0 type veth peer name out0 netns {}", space.id()));
        host(&format!("ip addr add {HOST}/24 dev up0"));
        host("ip link set up0 up");
        let pages = state.path("pages");
        std::fs::create_dir_all(pages.join("cgi-bin")).unwrap();
        let script = pages.join("cgi-bin/who");
        std::fs::write(
            &script,
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\nseen as %s\\n' \"$REMOTE_ADDR\"\n",
        )
        .unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let inside = |words: &[&str]| {
            let mut command = Command::new("nsenter");
            command.args(["-t", &space.id().to_string(), "-n"]).args(words);
            command
        };
        for words in
            [&["ip", "addr", "add", &format!("{OUTSIDE}/24"), "dev", "out0"][..], &["ip", "link", "set", "out0", "up"]]
        {
            assert!(inside(words).status().unwrap().success(), "{words:?}");
        }
        let server =
            inside(&["/bin/busybox", "httpd", "-f", "-p", &format!("{OUTSIDE}:80"), "-h", pages.to_str().unwrap()]);
        let server = { server }.stdin(Stdio::null()).spawn().unwrap();
        Self { space, server }
    }

    /// A process in it.
    pub fn pid(&self) -> i32 {
        self.space.id() as i32
    }
}

impl World {
    /// Runs a command outside, which must succeed; its output.
    pub fn sh(&self, words: &str) -> String {
        host(&format!("nsenter -t {} -n {words}", self.space.id()))
    }
}

/// Does something in the network of a process.
fn in_network<T: Send>(pid: &str, what: impl FnOnce() -> T + Send) -> T {
    let space = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            nix::sched::setns(&space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        there.join().unwrap()
    })
}

/// Does something in the network of an instance.
pub fn inside<T: Send>(state: &State, instance: &str, what: impl FnOnce() -> T + Send) -> T {
    in_network(state.good(&["list", instance, "-f", "csv", "-c", "p"]).trim(), what)
}

/// Sends `words` to a server and returns what it says until it closes; nothing if there is none within two seconds.
pub fn ask(address: &str, port: u16, words: &str) -> String {
    let patience = Duration::from_secs(2);
    let to = SocketAddr::new(address.parse().unwrap(), port);
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(words.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().unwrap_or_default()
}

/// The page `name` of a web server.
pub fn get(address: &str, port: u16) -> String {
    let answer = ask(address, port, "GET /name HTTP/1.0\r\n\r\n");
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_string()
}

/// Answers the next UDP packet that comes to the socket with itself.
pub fn echo_once(socket: UdpSocket) -> std::thread::JoinHandle<()> {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        let (n, from) = on(|| socket.recv_from(&mut packet)).unwrap();
        socket.send_to(&packet[..n], from).unwrap();
    })
}

impl World {
    /// Does something outside.
    pub fn outside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        in_network(&self.space.id().to_string(), what)
    }

    /// What a web server says to the outside.
    pub fn get(&self, address: &str, port: u16) -> String {
        self.outside(|| get(address, port))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.space] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
