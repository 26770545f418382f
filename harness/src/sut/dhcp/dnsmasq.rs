//! dnsmasq as a DHCPv4 server (dnsmasq(8)): its options, and its lease file.
//!
//! It knows a pool by the relay's address in it, which must be one of the loopback interface to reach us. So each pool is moved
//! into a network of its own there, 127.N.0.0/16: its addresses to the upper half, the relay to 127.N.0.1; what is told and asked
//! is moved back. What it holds for a client is one lease in all, so a client is an owner in one pool, as with a host that has an
//! interface in each network. It reads its options once, so other pools mean another process on the same lease file. There is no
//! control channel: what is held stands in that file.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{client_of, owner_of};
use super::pools::{Pool, Pools};
use super::relay::Relay;
use super::server::{Lease, Server, Stop, end, free_port, how_it_ended};
use super::v4::Relay4;
use crate::address::{Family, Grant, Span, number};
use crate::contract::{Contract, Limits};
use crate::interrupt;
use crate::operation::{Kind, Method, PoolShape, Text};
use crate::sut::home::Home;
use crate::sut::outcome::{Outcome, refuse};
use crate::sut::process::{Process, STDERR_TAIL, deadline};
use crate::sut::protocol::excerpt;
use crate::sut::{Failure, Resource, Resources, procfs};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(10);
const NAP: Duration = Duration::from_micros(500);
/// The network of the first pool, 127.1.0.0/16, and of the one after the last.
const FIRST_NETWORK: u16 = 1;
const NO_NETWORK: u16 = 255;
/// Half of a network is room for this.
const SHORTEST_PREFIX: u8 = 17;
/// Longer than any run.
const LIFETIME: &str = "7d";

/// A dnsmasq that runs for us, where there are any pools.
pub(super) struct Dnsmasq {
    program: PathBuf,
    home: Home,
    process: Option<Process>,
    port: u16,
    /// The end of what the last process wrote.
    last_words: String,
}

impl Dnsmasq {
    /// Finds out whether it can be started.
    pub(super) fn start(program: &Path) -> Result<Dnsmasq, Failure> {
        let (home, port) = (Home::new()?, free_port(Family::V4)?);
        let mut dnsmasq = Dnsmasq { program: program.to_owned(), home, process: None, port, last_words: String::new() };
        dnsmasq.launch(&["127.1.128.1,127.1.128.1,255.255.0.0".to_owned()])?;
        dnsmasq.stop(Stop::Kill)?;
        Ok(dnsmasq)
    }

    /// Starts a process with these ranges.
    fn launch(&mut self, ranges: &[String]) -> Result<(), Failure> {
        let file = |name: &str| self.home.temporary().join(name);
        let (ready, log) = (file("pid"), file("dnsmasq.log"));
        let _ = fs::remove_file(&ready);
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new(&self.program);
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--no-ping"])
            // Bound so, it lets the relay have the same port at other addresses.
            .args(["--interface=lo", "--bind-interfaces"])
            // A client that it does not know, and that asks for an address elsewhere, is told so.
            .arg("--dhcp-authoritative")
            .arg(format!("--dhcp-alternate-port={},{}", self.port, self.port))
            .args([option("dhcp-leasefile", &self.lease_file()), option("pid-file", &ready)])
            .arg(option("log-facility", &log))
            .args(ranges.iter().map(|range| format!("--dhcp-range={range},{LIFETIME}")))
            // By it what is left of the process is found.
            .env("TMPDIR", self.home.temporary());
        self.process = Some(Process::start(command)?);
        let until = deadline(PATIENCE);
        while !ready.exists() {
            if let Some(end) = self.has_ended() {
                return Err(Failure::Unable(format!("`{}` does not start: {end}", self.program.display())));
            }
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            if Instant::now() >= until {
                return Err(Failure::Unable(format!("`{}` does not start in {PATIENCE:?}", self.program.display())));
            }
            sleep(NAP);
        }
        Ok(())
    }

    fn lease_file(&self) -> PathBuf {
        self.home.state().join("leases")
    }

    fn ranges(&self, pools: &Pools) -> Vec<String> {
        pools.iter().flat_map(|(_, pool)| self.ranges_of(pool)).collect()
    }

    fn ranges_of(&self, pool: &Pool) -> Vec<String> {
        if pool.ranges.is_empty() {
            // A network that it knows, and of which it gives nothing away.
            return vec![format!("127.{}.0.0,static,255.255.0.0", network(pool.number))];
        }
        let there = |place: u128| Ipv4Addr::from_bits((place as u32).wrapping_add(self.offset(pool)));
        let range = |Span { first, last }: &Span| format!("{},{},255.255.0.0", there(*first), there(*last));
        pool.ranges.iter().map(range).collect()
    }
}

impl Server for Dnsmasq {
    fn contract(&self, contract: Contract) -> Contract {
        let limits = Limits {
            // The relay's address is in the same network.
            shortest_prefix: [SHORTEST_PREFIX, 0],
            ..contract.limits
        };
        // It counts nothing.
        Contract { methods: contract.methods.without(Method::Usage), limits, ..contract }
    }

    fn relay(&self, limit: Duration) -> Box<dyn Relay> {
        Box::new(Relay4::beside(SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port), limit))
    }

    /// Below the pool, one for each caller.
    fn relay_address(&self, pool: &Pool, lane: u8) -> IpAddr {
        Ipv4Addr::new(127, network(pool.number), 0, 1 + lane).into()
    }

    fn offset(&self, pool: &Pool) -> u32 {
        let here = number(pool.prefix.network()) as u32;
        Ipv4Addr::new(127, network(pool.number), 128, 0).to_bits().wrapping_sub(here)
    }

    fn client(&self, pool: &Pool, owner: &str) -> Vec<u8> {
        [&client_of(owner)[..], &pool.number.to_be_bytes()].concat()
    }

    fn owner(&self, client: &[u8], pools: &Pools) -> Text {
        let (client, _number) = client.split_last_chunk::<2>().unwrap_or((client, &[0, 0]));
        owner_of(client, pools.owners())
    }

    fn configure(&mut self, pools: &Pools) -> Outcome<()> {
        if pools.iter().any(|(_, pool)| pool.prefix.prefix_len() < SHORTEST_PREFIX) {
            return refuse(Kind::Unsupported, "the pool does not fit into a network of the loopback interface");
        }
        if pools.iter().any(|(_, pool)| pool.number + FIRST_NETWORK >= NO_NETWORK) {
            return refuse(Kind::Unsupported, "the loopback interface has no room for so many pools");
        }
        self.stop(Stop::Clean)?;
        self.start_again(pools)?;
        Ok(())
    }

    /// What is wrong in the protocol's eyes need not be wrong in those of its options, which have another syntax.
    fn refuse_malformed(&mut self, _: &str, _: &PoolShape) -> Outcome<()> {
        Ok(())
    }

    fn leases(&mut self, pool: &Pool) -> Result<Vec<Lease>, Failure> {
        let text = match fs::read_to_string(self.lease_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::total(format!("its lease file cannot be read: {error}"))),
        };
        let mut leases = Vec::new();
        for line in text.lines() {
            let (place, client) = read_lease(line).ok_or_else(|| {
                Failure::total(format!("a line of its lease file is no lease: {}", excerpt(line.as_bytes())))
            })?;
            if place.octets()[1] == network(pool.number) {
                let here = Ipv4Addr::from_bits(place.to_bits().wrapping_sub(self.offset(pool)));
                leases.push(Lease { grant: Grant::Address(here.into()), client });
            }
        }
        Ok(leases)
    }

    /// The file is written anew for each change, and is neither the old one nor the new one meanwhile.
    fn lists_in_passing(&self) -> bool {
        false
    }

    fn usage(&mut self, _: &Pool) -> Result<(u128, u128), Failure> {
        Err(Failure::Unable("dnsmasq counts nothing".to_owned()))
    }

    /// What was declined may be had again at once.
    fn clear(&mut self, _: &Pool, _: IpAddr) -> Result<(), Failure> {
        Ok(())
    }

    fn empty(&mut self) -> Result<(), Failure> {
        self.stop(Stop::Kill)?;
        match fs::remove_file(self.lease_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::Unable(format!("cannot remove its lease file: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn stop(&mut self, how: Stop) -> Result<(), Failure> {
        let Some(process) = self.process.take() else { return Ok(()) };
        end(process, how, &mut self.last_words)
    }

    fn start_again(&mut self, pools: &Pools) -> Result<(), Failure> {
        let ranges = self.ranges(pools);
        // Without ranges it is no DHCP server.
        if ranges.is_empty() { Ok(()) } else { self.launch(&ranges) }
    }

    fn has_ended(&mut self) -> Option<String> {
        let end = how_it_ended(&mut self.process, &mut self.last_words)?;
        Some(format!("the server {end}; it wrote {}", excerpt(self.diagnostics().trim().as_bytes())))
    }

    fn resources(&self) -> Resources {
        let left = procfs::files_below(self.home.path());
        match &self.process {
            Some(process) => procfs::resources(process.pid()).with(Resource::Left, left),
            None => Resources::UNKNOWN.with(Resource::Left, left),
        }
    }

    fn diagnostics(&self) -> String {
        let log = fs::read(self.home.temporary().join("dnsmasq.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(STDERR_TAIL)..]).into_owned();
        format!("{}{log}", self.last_words)
    }
}

/// The second byte of the addresses in the network of a pool.
fn network(number: u16) -> u8 {
    u8::try_from(number + FIRST_NETWORK).unwrap_or(u8::MAX)
}

/// A line of the lease file: end, hardware address, address, name, client identifier.
fn read_lease(line: &str) -> Option<(Ipv4Addr, Vec<u8>)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [_end, _hardware, place, _name, client] = words[..] else { return None };
    let client: Option<Vec<u8>> = client.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    Some((place.parse().ok()?, client?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_lease_file_are_read() {
        let line = "1796466457 02:00:00:00:00:03 127.5.128.3 * 00:61:00:00";
        assert_eq!(read_lease(line), Some((Ipv4Addr::new(127, 5, 128, 3), vec![0, 0x61, 0, 0])));
        assert_eq!(read_lease("1796466457 02:00:00:00:00:03 127.5.128.3 *"), None);
        assert_eq!(read_lease("duid 00:01"), None);
    }
}
