//! ISC Kea, `kea-dhcp4` and `kea-dhcp6`: its configuration, and its control channel (Kea Administrator Reference Manual, sections 8, 9 and 17).
//!
//! It has the files of a temporary directory, two ports of the loopback interface, and answers in order, with one thread. What is
//! held is asked of its hook library `lease_cmds`, how much there is of its statistics.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddrV4, SocketAddrV6};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::pools::{Pool, Pools};
use super::relay::Relay;
use super::server::{LANES, Lease, Server, Stop, end, free_port, how_it_ended};
use super::v4::Relay4;
use super::v6::{self, Relay6};
use crate::address::{Family, Grant, Span};
use crate::interrupt;
use crate::operation::{Kind, PoolShape};
use crate::sut::home::Home;
use crate::sut::outcome::{Outcome, refuse};
use crate::sut::process::{Process, STDERR_TAIL, deadline};
use crate::sut::protocol::excerpt;
use crate::sut::{Failure, Resource, Resources, procfs};

/// How long a start and an answer of the control channel may take.
const PATIENCE: Duration = Duration::from_secs(10);
const NAP: Duration = Duration::from_millis(1);
/// Another process may take a port that was free.
const STARTS: usize = 5;
/// Longer than any run.
const LIFETIME_S: u32 = 7 * 24 * 60 * 60;
/// The lease file only grows, and each start reads it; above this size a new one is begun, which takes a start, too.
const MOST_LEASE_BYTES: u64 = 256 << 10;
/// Where packages and `make install` put the hook libraries.
const HOOK_FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/kea/hooks",
    "/usr/lib/aarch64-linux-gnu/kea/hooks",
    "/usr/lib64/kea/hooks",
    "/usr/lib/kea/hooks",
    "/usr/local/lib/kea/hooks",
];
const HOOKS: [&str; 2] = ["libdhcp_lease_cmds.so", "libdhcp_stat_cmds.so"];

/// The DUID that it is given: type 2, "vendor-assigned", ISC's number, and 1 (RFC 8415 section 11.3).
const SERVER_ID: [u8; 7] = [0, 2, 0, 0, 0x09, 0xbf, 1];

/// Results of the control channel: done, and nothing there to do it to.
const DONE: u64 = 0;
const EMPTY: u64 = 3;
/// The state of a lease that a client holds.
const HELD: u64 = 0;

/// A Kea that runs for us.
pub(super) struct Kea {
    program: PathBuf,
    family: Family,
    hooks: &'static str,
    home: Home,
    process: Option<Process>,
    port: u16,
    /// The port of a relay to which it answers, for DHCPv4.
    reply_port: u16,
    /// The numbers of pools that may have leases.
    used: BTreeSet<u16>,
    /// The end of what the last process wrote.
    last_words: String,
    /// What it said last of a configuration that it does not take.
    complaint: String,
}

impl Kea {
    /// Starts it without any pools.
    pub(super) fn start(program: &Path, family: Family) -> Result<Kea, Failure> {
        let has_hooks = |folder: &&str| HOOKS.iter().all(|hook| Path::new(folder).join(hook).is_file());
        let hooks = HOOK_FOLDERS.into_iter().find(has_hooks).ok_or_else(|| {
            let folders = HOOK_FOLDERS.join(", ");
            Failure::Unable(format!("Kea's hook libraries {} are in none of {folders}", HOOKS.join(" and ")))
        })?;
        let (port, reply_port) = (free_port(family)?, free_port(family)?);
        let mut kea = Kea {
            program: program.to_owned(),
            family,
            hooks,
            home: Home::new()?,
            process: None,
            port,
            reply_port,
            used: BTreeSet::new(),
            last_words: String::new(),
            complaint: String::new(),
        };
        for _ in 1..STARTS {
            if kea.launch(&Pools::default()).is_ok() {
                return Ok(kea);
            }
            kea.process = None;
            (kea.port, kea.reply_port) = (free_port(family)?, free_port(family)?);
        }
        kea.launch(&Pools::default()).map(|()| kea)
    }

    fn launch(&mut self, pools: &Pools) -> Result<(), Failure> {
        let file = self.file("kea.json");
        let written = fs::write(&file, self.configuration(pools).to_string());
        written.map_err(|error| Failure::Unable(format!("cannot write {}: {error}", file.display())))?;
        // What the last process left would look like an answer.
        let _ = fs::remove_file(self.file("control"));
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&file).args(["-p", &self.port.to_string()]);
        if self.family == Family::V4 {
            command.args(["-P", &self.reply_port.to_string()]);
        }
        command.env("KEA_PIDFILE_DIR", self.home.temporary()).env("KEA_LOCKFILE_DIR", self.home.temporary());
        self.process = Some(Process::start(command)?);
        self.await_control()
    }

    /// Waits until it answers.
    fn await_control(&mut self) -> Result<(), Failure> {
        let until = deadline(PATIENCE);
        loop {
            if let Some(end) = self.has_ended() {
                return Err(Failure::Unable(format!("`{}` does not start: {end}", self.program.display())));
            }
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            // It takes connections before it listens to clients, but answers afterwards.
            if self.exchange(br#"{ "command": "version-get" }"#).is_ok_and(|answer| !answer.is_empty()) {
                return Ok(());
            }
            if Instant::now() >= until {
                let program = self.program.display();
                return Err(Failure::Unable(format!("`{program}` has not opened its control channel in {PATIENCE:?}")));
            }
            sleep(NAP);
        }
    }

    /// A file that goes with this run.
    fn file(&self, name: &str) -> PathBuf {
        self.home.temporary().join(name)
    }

    fn lease_file(&self) -> PathBuf {
        self.home.state().join("leases.csv")
    }

    fn configuration(&self, pools: &Pools) -> Value {
        let subnets: Vec<Value> = pools.iter().map(|(_, pool)| self.subnet(pool)).collect();
        self.configuration_with(subnets)
    }

    fn configuration_with(&self, subnets: Vec<Value>) -> Value {
        let hooks: Vec<Value> = HOOKS.map(|hook| json!({ "library": format!("{}/{hook}", self.hooks) })).to_vec();
        let mut server = json!({
            "control-socket": { "socket-type": "unix", "socket-name": self.file("control").to_string_lossy() },
            // `lfc-interval` 0: nobody tidies the file up behind its back.
            "lease-database": { "type": "memfile", "name": self.lease_file().to_string_lossy(), "lfc-interval": 0 },
            "hooks-libraries": hooks,
            // Answers are in order.
            "multi-threading": { "enable-multi-threading": false },
            "valid-lifetime": LIFETIME_S,
            "loggers": [{
                "name": self.name(),
                "severity": "ERROR",
                "output_options": [{ "output": self.file("kea.log").to_string_lossy(), "maxsize": 1 << 20, "maxver": 1 }],
            }],
        });
        server[format!("subnet{}", self.digit())] = json!(subnets);
        match self.family {
            Family::V4 => {
                server["interfaces-config"] = json!({ "interfaces": ["lo"], "dhcp-socket-type": "udp" });
                // A client that it does not know, and that asks for an address elsewhere, is told so.
                server["authoritative"] = json!(true);
            }
            Family::V6 => {
                server["interfaces-config"] = json!({ "interfaces": ["lo/::1"] });
                // Else it makes an identifier of a hardware address, and the loopback interface has none.
                server["server-id"] =
                    json!({ "type": "EN", "enterprise-id": 2495, "identifier": "01", "persist": false });
            }
        }
        json!({ format!("Dhcp{}", self.digit()): server })
    }

    fn subnet(&self, pool: &Pool) -> Value {
        let range = |span: &Span| format!("{} - {}", self.family.address(span.first), self.family.address(span.last));
        let relays: Vec<String> = (0..LANES).map(|lane| self.relay_address(pool, lane).to_string()).collect();
        let mut subnet = json!({
            "id": subnet_id(pool.number),
            "subnet": pool.prefix.to_string(),
            "relay": { "ip-addresses": relays },
        });
        match pool.blocks {
            None => subnet["pools"] = pool.ranges.iter().map(|span| json!({ "pool": range(span) })).collect(),
            Some(length) => subnet["pd-pools"] = pool.prefixes(length).map(|prefix| pd_pool(prefix, length)).collect(),
        }
        subnet
    }

    /// The names that differ in the families differ by it.
    fn digit(&self) -> char {
        match self.family {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    fn name(&self) -> String {
        format!("kea-dhcp{}", self.digit())
    }

    /// A command and its answer: the arguments where it was done, nothing where there was nothing to do it to.
    fn control(&mut self, command: &str, arguments: Value) -> Result<Option<Value>, Failure> {
        let (result, answer) = self.ask(command, arguments)?;
        match result {
            DONE => Ok(Some(answer["arguments"].clone())),
            EMPTY => Ok(None),
            _ => Err(Failure::total(format!("`{command}` on the control channel failed: {}", shown(&answer)))),
        }
    }

    /// A command and its answer, whatever it is.
    fn ask(&mut self, command: &str, arguments: Value) -> Result<(u64, Value), Failure> {
        let asked = json!({ "command": command, "arguments": arguments }).to_string();
        let answer = self.exchange(asked.as_bytes()).map_err(|error| {
            let why = self.has_ended().unwrap_or_else(|| error.to_string());
            Failure::total(format!("`{command}` on the control channel has no answer: {why}"))
        })?;
        let wrong = || Failure::total(format!("`{command}` on the control channel is answered {}", excerpt(&answer)));
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| wrong())?;
        let result = answer["result"].as_u64().ok_or_else(wrong)?;
        Ok((result, answer))
    }

    fn exchange(&self, asked: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(self.file("control"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(asked)?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// Would it take this configuration? If not, what it says.
    fn test(&mut self, configuration: Value) -> Result<Result<(), String>, Failure> {
        match self.ask("config-test", configuration)? {
            (DONE, _) => Ok(Ok(())),
            (_, answer) => Ok(Err(shown(&answer))),
        }
    }
}

impl Server for Kea {
    fn relay(&self, limit: Duration) -> Box<dyn Relay> {
        match self.family {
            Family::V4 => {
                Box::new(Relay4::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port), self.reply_port, limit))
            }
            Family::V6 => {
                Box::new(Relay6::new(SocketAddrV6::new(Ipv6Addr::LOCALHOST, self.port, 0, 0), &SERVER_ID, limit))
            }
        }
    }

    /// All of 127.0.0.0/8 is on the loopback interface, and Kea has the first address of it. Of IPv6 nobody needs to have it: a
    /// network for documentation (RFC 3849).
    fn relay_address(&self, pool: &Pool, lane: u8) -> IpAddr {
        let [high, low] = pool.number.to_be_bytes();
        match self.family {
            Family::V4 => Ipv4Addr::new(127, 1 + lane, high, low).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, lane.into(), pool.number).into(),
        }
    }

    /// A configuration that fails half-way would leave it without the old one, so it is tested first.
    fn configure(&mut self, pools: &Pools) -> Outcome<()> {
        let configuration = self.configuration(pools);
        if let Err(complaint) = self.test(configuration.clone())? {
            self.complaint = complaint;
            return refuse(Kind::Invalid, "the server does not take this pool");
        }
        self.control("config-set", configuration)?;
        self.used.extend(pools.iter().map(|(_, pool)| pool.number));
        Ok(())
    }

    fn refuse_malformed(&mut self, prefix: &str, shape: &PoolShape) -> Outcome<()> {
        let range = |(first, last)| json!({ "pool": format!("{first} - {last}") });
        let pools: Vec<Value> = shape.ranges.iter().map(|(first, last)| range((first, last))).collect();
        let subnet = json!({ "id": subnet_id(u16::MAX - 1), "subnet": prefix, "pools": pools });
        if let Err(complaint) = self.test(self.configuration_with(vec![subnet]))? {
            self.complaint = complaint;
            return refuse(Kind::Invalid, "the server does not take this pool");
        }
        Ok(())
    }

    fn leases(&mut self, pool: &Pool) -> Result<Vec<Lease>, Failure> {
        let command = format!("lease{}-get-all", self.digit());
        let found = self.control(&command, json!({ "subnets": [subnet_id(pool.number)] }))?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let leases = found["leases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let held = leases.iter().filter(|lease| lease["state"].as_u64() == Some(HELD));
        held.map(|lease| {
            read_lease(lease).ok_or_else(|| Failure::total(format!("`{command}` shows {lease}, which is no lease")))
        })
        .collect()
    }

    fn usage(&mut self, pool: &Pool) -> Result<(u128, u128), Failure> {
        let command = format!("stat-lease{}-get", self.digit());
        let found = self.control(&command, json!({ "subnet-id": subnet_id(pool.number) }))?.unwrap_or_default();
        let table = &found["result-set"];
        let columns = table["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
        let cell = |name: &str| {
            let place = columns.iter().position(|column| column == name)?;
            table["rows"][0][place].as_u64().map(u128::from)
        };
        let [all, held] = match (self.family, pool.blocks) {
            (Family::V4, _) => ["total-addresses", "assigned-addresses"],
            (Family::V6, None) => ["total-nas", "assigned-nas"],
            (Family::V6, Some(_)) => ["total-pds", "assigned-pds"],
        };
        let counts = cell(all).zip(cell(held));
        counts.ok_or_else(|| Failure::total(format!("`{command}` shows {found}, which counts nothing")))
    }

    fn clear(&mut self, _: &Pool, address: IpAddr) -> Result<(), Failure> {
        let command = format!("lease{}-del", self.digit());
        self.control(&command, json!({ "ip-address": address.to_string() })).map(|_| ())
    }

    fn empty(&mut self) -> Result<(), Failure> {
        let size = fs::metadata(self.lease_file()).map_or(0, |file| file.len());
        if self.process.is_none() || size > MOST_LEASE_BYTES {
            self.stop(Stop::Kill)?;
            self.home = Home::new()?;
            self.used.clear();
            return self.launch(&Pools::default());
        }
        let command = format!("lease{}-wipe", self.digit());
        for number in std::mem::take(&mut self.used) {
            self.control(&command, json!({ "subnet-id": subnet_id(number) }))?;
        }
        self.control("config-set", self.configuration(&Pools::default())).map(|_| ())
    }

    fn stop(&mut self, how: Stop) -> Result<(), Failure> {
        let Some(process) = self.process.take() else { return Ok(()) };
        end(process, how, &mut self.last_words)
    }

    fn start_again(&mut self, pools: &Pools) -> Result<(), Failure> {
        self.launch(pools)
    }

    fn has_ended(&mut self) -> Option<String> {
        let end = how_it_ended(&mut self.process, &mut self.last_words)?;
        Some(format!("the server {end}; it wrote {}", excerpt(self.diagnostics().trim().as_bytes())))
    }

    fn resources(&self) -> Resources {
        let Some(process) = &self.process else { return Resources::UNKNOWN };
        procfs::resources(process.pid()).with(Resource::Left, procfs::files_below(self.home.path()))
    }

    fn diagnostics(&self) -> String {
        let log = fs::read(self.file("kea.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(STDERR_TAIL)..]).into_owned();
        let parts = [self.complaint.as_str(), self.last_words.as_str(), log.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

/// Kea's numbers begin at 1.
fn subnet_id(number: u16) -> u32 {
    u32::from(number) + 1
}

/// What an answer says, for people.
fn shown(answer: &Value) -> String {
    excerpt(answer["text"].as_str().map_or_else(|| answer.to_string(), str::to_owned).as_bytes())
}

fn pd_pool(prefix: IpNet, length: u8) -> Value {
    json!({
        "prefix": prefix.network().to_string(),
        "prefix-len": prefix.prefix_len(),
        "delegated-len": length,
    })
}

fn read_lease(lease: &Value) -> Option<Lease> {
    let address: IpAddr = lease["ip-address"].as_str()?.parse().ok()?;
    let grant = match lease["type"].as_str() {
        Some("IA_PD") => {
            let length = u8::try_from(lease["prefix-len"].as_u64()?).ok()?;
            Grant::Block(IpNet::new(address, length).ok()?)
        }
        _ => Grant::Address(address),
    };
    let client = match address {
        IpAddr::V4(_) => bytes(lease["client-id"].as_str()?)?,
        IpAddr::V6(_) => v6::client_of_duid(&bytes(lease["duid"].as_str()?)?).to_vec(),
    };
    Some(Lease { grant, client })
}

/// Bytes as Kea writes them: `01:ff`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
