//! What the adapter needs of a DHCP server, whichever it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::client::{client_of, owner_of};
use super::dnsmasq::Dnsmasq;
use super::kea::Kea;
use super::pools::{Pool, Pools};
use super::relay::Relay;
use crate::address::{Family, Grant};
use crate::contract::Contract;
use crate::operation::{PoolShape, Text};
use crate::sut::outcome::Outcome;
use crate::sut::process::{Process, deadline, describe};
use crate::sut::{Failure, Resources};

/// How long an end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many callers at the same time have relay addresses of their own.
pub(super) const LANES: u8 = 32;

/// A server that runs for us.
pub(super) trait Server: Send {
    /// What it promises of what a server of DHCP can.
    fn contract(&self, contract: Contract) -> Contract {
        contract
    }

    /// A relay agent for it.
    fn relay(&self, limit: Duration) -> Box<dyn Relay>;

    /// The address of the relay on the link of this pool, for a caller of this number.
    fn relay_address(&self, pool: &Pool, lane: u8) -> IpAddr;

    /// How far from here the pool's addresses are there, where the server cannot have them in their place.
    fn offset(&self, _: &Pool) -> u32 {
        0
    }

    /// The identifier of an owner as a client in this pool.
    fn client(&self, _: &Pool, owner: &str) -> Vec<u8> {
        client_of(owner)
    }

    /// The owner whose identifier this is.
    fn owner(&self, client: &[u8], pools: &Pools) -> Text {
        owner_of(client, pools.owners())
    }

    /// From now on it has these pools. What is held in those that it had already stays.
    fn configure(&mut self, pools: &Pools) -> Outcome<()>;

    /// Refuses a malformed pool in the server's own right, where it does.
    fn refuse_malformed(&mut self, prefix: &str, shape: &PoolShape) -> Outcome<()>;

    /// What it says is held in a pool.
    fn leases(&mut self, pool: &Pool) -> Result<Vec<Lease>, Failure>;

    /// Can it say so while others change it?
    fn lists_in_passing(&self) -> bool {
        true
    }

    /// How many addresses or blocks it says a pool has, and how many of them are held.
    fn usage(&mut self, pool: &Pool) -> Result<(u128, u128), Failure>;

    /// Puts an address back that a client has declined, as somebody does who has looked after it.
    fn clear(&mut self, pool: &Pool, address: IpAddr) -> Result<(), Failure>;

    /// No pools and no leases.
    fn empty(&mut self) -> Result<(), Failure>;

    /// Ends the process, by its own means or by force.
    fn stop(&mut self, end: Stop) -> Result<(), Failure>;

    /// Starts a process again on what the last one left.
    fn start_again(&mut self, pools: &Pools) -> Result<(), Failure>;

    /// How it has ended, where it has.
    fn has_ended(&mut self) -> Option<String>;

    /// What it has hold of.
    fn resources(&self) -> Resources;

    /// The end of what it wrote for people.
    fn diagnostics(&self) -> String;
}

/// How a process is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Clean,
    Kill,
}

/// A lease, as the server says.
pub(super) struct Lease {
    pub(super) grant: Grant,
    /// The client's identifier.
    pub(super) client: Vec<u8>,
}

/// Starts the server that this program is.
pub(super) fn start(program: &Path, family: Family) -> Result<Box<dyn Server>, Failure> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match (&*name, family) {
        ("kea-dhcp4", Family::V4) | ("kea-dhcp6", Family::V6) => Ok(Box::new(Kea::start(program, family)?)),
        ("dnsmasq", Family::V4) => Ok(Box::new(Dnsmasq::start(program)?)),
        _ => {
            let known = if family == Family::V4 { "`kea-dhcp4` and `dnsmasq` are" } else { "`kea-dhcp6` is" };
            Err(Failure::Unable(format!("`{name}` is no server of this kind that is known here; {known}")))
        }
    }
}

/// The loopback address of a family.
pub(super) fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// A port that is free on the loopback interface just now.
pub(super) fn free_port(family: Family) -> Result<u16, Failure> {
    let port = UdpSocket::bind((loopback(family), 0)).and_then(|socket| socket.local_addr());
    port.map(|address| address.port()).map_err(|error| Failure::Unable(format!("there is no free port: {error}")))
}

/// Ends a process; `words` is the end of what it wrote.
pub(super) fn end(mut process: Process, how: Stop, words: &mut String) -> Result<(), Failure> {
    let mut is_late = false;
    if how == Stop::Clean {
        // It may have ended by itself.
        let _ = kill_process(process.pid(), Signal::TERM);
        is_late = process.await_exit(deadline(PATIENCE)).is_err();
    }
    let ended = process.end();
    *words = process.stderr_tail();
    match ended {
        _ if is_late => Err(Failure::total(format!("it has not ended {PATIENCE:?} after SIGTERM"))),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Unable(format!("cannot end the server: {error}"))),
    }
}

/// How a process has ended that nobody has ended, as the rest of a sentence; `words` is the end of what it wrote.
pub(super) fn how_it_ended(running: &mut Option<Process>, words: &mut String) -> Option<String> {
    let mut process = running.take_if(|process| process.has_exited())?;
    let end = process.end().map_or_else(|error| error.to_string(), describe);
    *words = process.stderr_tail();
    Some(end)
}
