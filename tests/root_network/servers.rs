//! Real servers behind real networks: nginx behind a forward and behind a proxy, iperf3 between instances and with the host.

use crate::common_root::{State, have, skip};
use crate::support::{Ask, state};
use crate::world::{HOST, World, ask, host_try, inside};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program of the host that runs in the network of an instance; it ends with this.
struct Server(Child);

impl Server {
    fn new(pid: i32, words: &[&str]) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n", "--"]).args(words).stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.0.id() as i32), nix::sys::signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A network with two instances that have addresses.
fn ready(test: &str, program: &str) -> Option<State> {
    if !have(program) {
        skip(test, &format!("no {program}"));
        return None;
    }
    let state = state(test)?;
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    for (name, last) in [("c1", 11), ("c2", 12)] {
        state.good(&["create", "test", name, "-n", "testbr0", "-d", &format!("eth0,ipv4.address=10.77.0.{last}")]);
        state.good(&["start", name]);
        state.sh(name, &format!("ip addr add 10.77.0.{last}/24 dev eth0; ip route add default via 10.77.0.1"));
    }
    Some(state)
}

fn within<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nginx_behind_a_forward_and_a_proxy() {
    let Some(state) = ready("nginx_behind_a_forward_and_a_proxy", "nginx") else { return };
    let world = World::new(&state);
    let home = state.path("nginx");
    std::fs::create_dir(&home).unwrap();
    let page: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(home.join("page"), &page).unwrap();
    let dir = home.display();
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\nevents {{}}\nhttp {{\n access_log {dir}/access.log;\n \
         client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n \
         server {{ listen 80; root {dir}; location = /who {{ return 200 \"nginx saw $remote_addr\\n\"; }} }}\n}}\n"
    );
    std::fs::write(home.join("nginx.conf"), config).unwrap();
    let file = home.join("nginx.conf");
    let nginx = Server::new(state.init("c1"), &["nginx", "-p", home.to_str().unwrap(), "-c", file.to_str().unwrap()]);
    let who = |address: &str, port: u16| ask(address, port, "GET /who HTTP/1.0\r\nHost: x\r\n\r\n");
    within("nginx does not answer", || who("10.77.0.11", 80).contains("nginx saw 10.77.0.1").then_some(()));
    state.good(&["network", "forward", "create", "testbr0", HOST]);
    state.good(&["network", "forward", "port", "add", "testbr0", HOST, "tcp", "8080", "10.77.0.11", "80"]);
    let listen = format!("listen=tcp:{HOST}:8081");
    state.good(&["config", "device", "add", "c1", "web", "proxy", &listen, "connect=tcp:0.0.0.0:80", "nat=true"]);
    for port in [8080, 8081] {
        let seen = world.outside(|| who(HOST, port));
        assert!(seen.contains("nginx saw 203.0.113.2"), "the client's own address, {port}: {seen}");
        let whole = world.outside(|| ask(HOST, port, "GET /page HTTP/1.0\r\nHost: x\r\n\r\n"));
        assert!(whole.ends_with(&page), "{port}: {} bytes", whole.len());
        assert!(who(HOST, port).contains("nginx saw "), "the host itself, {port}");
        for name in ["c1", "c2"] {
            assert!(inside(&state, name, || who(HOST, port)).contains("nginx saw "), "{name}, {port}");
        }
    }
    drop(nginx);
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    drop(world);
    state.finish();
}

/// A lot of bytes both ways, TCP and UDP, between two instances and between the host and one. How fast is measured elsewhere.
#[test]
fn iperf3_carries() {
    let Some(state) = ready("iperf3_carries", "iperf3") else { return };
    let server = Server::new(state.init("c1"), &["iperf3", "-s"]);
    let client = |from: Option<i32>, words: &str| -> Result<f64, String> {
        let client = format!("iperf3 -J -c 10.77.0.11 {words}");
        let there = from.map(|pid| format!("nsenter -t {pid} -n {client}"));
        let said: serde_json::Value =
            serde_json::from_str(&host_try(there.as_ref().unwrap_or(&client))?).map_err(|e| e.to_string())?;
        let end = &said["end"];
        let bytes = end["sum_received"]["bytes"].as_f64().or(end["sum"]["bytes"].as_f64());
        bytes.ok_or_else(|| said.to_string())
    };
    within("iperf3 does not answer", || client(None, "-n 1K").ok());
    for from in [None, Some(state.init("c2"))] {
        for words in ["-n 8M", "-n 8M -R", "-n 8M -P 4", "-u -b 20M -n 1M", "-u -b 20M -n 1M -R"] {
            // It serves one at a time, and may not be done with the one before.
            let attempt = || match client(from, words) {
                Err(e) if e.contains("server is busy") => None,
                other => Some(other.unwrap_or_else(|e| panic!("{words}: {e}"))),
            };
            let bytes = within("iperf3 stays busy", attempt);
            assert!(bytes >= 500_000.0, "{words}: {bytes} bytes");
        }
    }
    drop(server);
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
