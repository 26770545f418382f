//! What checking real systems costs: scenarios through an adapter and the model, beside bare loops of the same calls.
//!
//! Both sides run in turn, round by round, each on a system of its own, and the figure is the ratio of the medians. A bare loop
//! judges nothing, and knows beforehand what it will be granted.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use poolproof::address::Family;
use poolproof::engine::run::{Runner, Unwatched};
use poolproof::scenario::{Scenario, parse};
use poolproof::sut::Sut;
use poolproof::sut::cni::Cni;
use poolproof::sut::dhcp::Dhcp;
use serde_json::{Value, json};
use tempfile::TempDir;

const ROUNDS: usize = 11;
const KEA: &str = "/usr/sbin/kea-dhcp4";
const HOOKS: &str = "/usr/lib/x86_64-linux-gnu/kea/hooks";
const RELAY: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 1);
const HOST_LOCAL: &str = "/usr/lib/cni/host-local";
/// So many allocations and as many releases in a round.
const LEASES: u32 = 50;
/// So many releases fit into the buffer of the server's socket.
const RELEASES_AT_ONCE: u32 = 16;
/// Above this size the adapter begins a new lease file.
const MOST_LEASE_BYTES: u64 = 256 << 10;
const CONTAINERS: u32 = 40;
/// Deleted attachments that the adapter looks for at the end of a scenario.
const CHECKS: u32 = 8;

fn main() {
    // `cargo test` runs benches too, with `--test`; a figure from an unoptimised build is none.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("operations a second, checked beside a bare loop; medians of {ROUNDS} rounds in turn");
    if Path::new(KEA).exists() {
        let mut bare = BareKea::start();
        // Most of a short scenario is its restart at the end, most of a long one its calls.
        for (name, times) in [("kea-dhcp4, short", 1), ("kea-dhcp4, long", 20)] {
            let sut = Dhcp::start(Path::new(KEA), Family::V4).expect("Kea starts");
            let calls = format!("fill p0 \"a\" {LEASES}\ndrain p0 {LEASES}\n").repeat(times as usize);
            compare(name, sut, &format!("pool p0 10.0.0.0/22\n{calls}"), times * LEASES * 2, || bare.round(times));
        }
    }
    if Path::new(HOST_LOCAL).exists() {
        let sut = Cni::new(HOST_LOCAL.into()).expect("the plugin answers");
        let scenario =
            format!("pool p0 10.0.0.0/22 gateway 10.0.0.1\nfill p0 \"a\" {CONTAINERS}\ndrain p0 {CONTAINERS}");
        compare("host-local", sut, &scenario, CONTAINERS * 2, bare_host_local);
    }
}

fn compare(name: &str, mut sut: impl Sut, steps: &str, operations: u32, mut bare: impl FnMut()) {
    let scenario: Scenario = parse(&format!("poolproof scenario 1\n{steps}\n")).expect("a scenario");
    let mut runner = Runner::new(&sut);
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let run = runner.run(&mut sut, &scenario, &mut Unwatched).expect("the system runs");
        assert!(run.finding.is_none() && run.accepted >= u64::from(operations), "{:?}", run.finding);
        rates[0].push(f64::from(operations) / started.elapsed().as_secs_f64());
        let started = Instant::now();
        bare();
        rates[1].push(f64::from(operations) / started.elapsed().as_secs_f64());
    }
    let [checked, bare] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("{name:<16} {:.0} % (at least 80 %): {checked:.0}/s beside {bare:.0}/s", 100.0 * checked / bare);
}

/// A Kea with one subnet, and a client without a library: messages are templates.
struct BareKea {
    kea: Child,
    folder: TempDir,
    server: SocketAddrV4,
    socket: UdpSocket,
}

impl BareKea {
    fn start() -> BareKea {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let socket = UdpSocket::bind((RELAY, 0)).expect("a relay's socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free.expect("a free port").port());
        let kea = Command::new("true").spawn().expect("something that ends");
        let mut bare = BareKea { kea, folder, server, socket };
        bare.launch();
        bare
    }

    /// Starts a process on what the last one left.
    fn launch(&mut self) {
        let _ = self.kea.wait();
        let _ = fs::remove_file(self.file("control"));
        fs::write(self.file("kea.json"), self.config(true).to_string()).expect("a file");
        let reply_port = self.socket.local_addr().expect("it is bound").port();
        self.kea = Command::new(KEA)
            .arg("-c")
            .arg(self.file("kea.json"))
            .args(["-p", &self.server.port().to_string(), "-P", &reply_port.to_string()])
            .env("KEA_PIDFILE_DIR", self.folder.path())
            .env("KEA_LOCKFILE_DIR", self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("Kea starts");
        while self.ask_control("version-get", json!({})).is_none() {
            sleep(Duration::from_millis(1));
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, has_pool: bool) -> Value {
        let subnet = json!({
            "id": 1, "subnet": "10.0.0.0/22", "relay": { "ip-addresses": [RELAY] },
            "pools": [{ "pool": "10.0.0.1 - 10.0.3.254" }],
        });
        let hook = |name: &str| json!({ "library": format!("{HOOKS}/libdhcp_{name}_cmds.so") });
        json!({ "Dhcp4": {
            "interfaces-config": { "interfaces": ["lo"], "dhcp-socket-type": "udp" },
            "control-socket": { "socket-type": "unix", "socket-name": self.file("control") },
            "lease-database": { "type": "memfile", "name": self.file("leases.csv"), "lfc-interval": 0 },
            "hooks-libraries": [hook("lease"), hook("stat")],
            "multi-threading": { "enable-multi-threading": false },
            "valid-lifetime": 86400,
            "subnet4": if has_pool { vec![subnet] } else { Vec::new() },
            "loggers": [{ "name": "kea-dhcp4", "severity": "ERROR", "output_options": [{ "output": self.file("log") }] }],
        }})
    }

    fn control(&self, command: &str, arguments: Value) {
        let answer = self.ask_control(command, arguments);
        assert!(answer.is_some_and(|answer| !answer.contains("\"result\": 1")), "{command}");
    }

    fn ask_control(&self, command: &str, arguments: Value) -> Option<String> {
        let mut stream = UnixStream::connect(self.file("control")).ok()?;
        stream.write_all(json!({ "command": command, "arguments": arguments }).to_string().as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().filter(|length| *length > 0)?;
        Some(answer)
    }

    /// As a scenario does: begin anew, one pool, all leases, none, and so on; ask what is there, end suddenly, and look again.
    fn round(&mut self, times: u32) {
        let leases = self.file("leases.csv");
        if fs::metadata(&leases).is_ok_and(|file| file.len() > MOST_LEASE_BYTES) {
            let _ = self.kea.kill();
            let _ = self.kea.wait();
            fs::remove_file(leases).expect("it was there");
            self.launch();
        }
        self.control("lease4-wipe", json!({ "subnet-id": 1 }));
        self.control("config-set", self.config(false));
        self.control("config-test", self.config(true));
        self.control("config-set", self.config(true));
        (0..times).for_each(|_| self.lease());
        self.look();
        let _ = self.kea.kill();
        let _ = self.kea.wait();
        self.launch();
        self.look();
    }

    fn look(&self) {
        self.control("lease4-get-all", json!({ "subnets": [1] }));
        self.control("stat-lease4-get", json!({ "subnet-id": 1 }));
    }

    fn lease(&self) {
        let mut held = Vec::new();
        for client in 0..LEASES {
            let offered = self.ask(1, client, [0; 4], &[]);
            held.push(self.ask(3, client, [0; 4], &[&[50, 4], &offered[..], &[54, 4, 127, 0, 0, 1]].concat()));
        }
        for (client, address) in (0..LEASES).zip(held) {
            self.send(7, client, address, &[54, 4, 127, 0, 0, 1]);
            // What comes after it has been read after it, and more of them than this could be lost.
            if client % RELEASES_AT_ONCE == 0 || client + 1 == LEASES {
                self.ask(1, LEASES, [0; 4], &[]);
            }
        }
    }

    /// The address in the answer.
    fn ask(&self, kind: u8, client: u32, address: [u8; 4], options: &[u8]) -> [u8; 4] {
        self.send(kind, client, address, options);
        let mut answer = [0; 1500];
        let size = self.socket.recv(&mut answer).expect("an answer");
        assert!(size > 240, "a message of DHCP");
        [answer[16], answer[17], answer[18], answer[19]]
    }

    fn send(&self, kind: u8, client: u32, address: [u8; 4], options: &[u8]) {
        let mut message = [0; 240];
        (message[0], message[1], message[2], message[3]) = (1, 1, 6, 1);
        message[4..8].copy_from_slice(&client.to_be_bytes());
        message[12..16].copy_from_slice(&address);
        message[24..28].copy_from_slice(&[127, 99, 0, 1]);
        message[30..34].copy_from_slice(&client.to_be_bytes());
        message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        let [a, b, c, d] = client.to_be_bytes();
        let whole = [&message[..], &[53, 1, kind, 61, 5, 0, a, b, c, d], options, &[255]].concat();
        self.socket.send_to(&whole, self.server).expect("it is sent");
    }
}

impl Drop for BareKea {
    fn drop(&mut self) {
        let _ = self.kea.kill();
        let _ = self.kea.wait();
    }
}

/// The runs of the plugin that the adapter makes for the scenario, on a data directory of its own.
fn bare_host_local() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "bare", "type": "host-local",
        "ipam": {
            "type": "host-local", "dataDir": folder.path(),
            "ranges": [[{ "subnet": "10.0.0.0/22", "gateway": "10.0.0.1" }]],
        },
    });
    let run = |verb: &str, container: u32, config: &Value| {
        let mut child = Command::new(HOST_LOCAL)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("c{container}"))
            .envs([("CNI_NETNS", "/none"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/usr/lib/cni")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the plugin starts");
        child.stdin.take().expect("it is piped").write_all(config.to_string().as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends").stdout
    };
    run("DEL", CONTAINERS, &config);
    let results: Vec<Vec<u8>> = (0..CONTAINERS).map(|container| run("ADD", container, &config)).collect();
    for (container, result) in (0..CONTAINERS).zip(results) {
        config["prevResult"] = serde_json::from_slice(&result).expect("a result");
        run("DEL", container, &config);
    }
    (0..CHECKS).for_each(|container| drop(run("CHECK", container, &config)));
}
