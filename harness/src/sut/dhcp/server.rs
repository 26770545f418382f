//! What the adapter needs of a DHCP server, whichever it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use super::kea::Kea;
use super::pools::{Pool, Pools};
use super::relay::Relay;
use crate::address::{Family, Grant};
use crate::operation::PoolShape;
use crate::sut::outcome::Outcome;
use crate::sut::{Failure, Resources};

/// A server that runs for us.
pub(super) trait Server: Send {
    /// A relay agent for it.
    fn relay(&self, limit: Duration) -> Box<dyn Relay>;

    /// The address of the relay on the link of this pool, for a caller of this number.
    fn relay_address(&self, pool: &Pool, lane: u8) -> IpAddr;

    /// From now on it has these pools. What is held in those that it had already stays.
    fn configure(&mut self, pools: &Pools) -> Outcome<()>;

    /// Refuses a malformed pool in the server's own right, where it does.
    fn refuse_malformed(&mut self, prefix: &str, shape: &PoolShape) -> Outcome<()>;

    /// What it says is held in a pool.
    fn leases(&mut self, pool: &Pool) -> Result<Vec<Lease>, Failure>;

    /// How many addresses or blocks it says a pool has, and how many of them are held.
    fn usage(&mut self, pool: &Pool) -> Result<(u128, u128), Failure>;

    /// Puts an address back that a client has declined, as somebody does who has looked after it.
    fn clear(&mut self, address: IpAddr) -> Result<(), Failure>;

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
        _ => {
            let known = if family == Family::V4 { "kea-dhcp4" } else { "kea-dhcp6" };
            Err(Failure::Unable(format!("`{name}` is no server of this kind that is known here; `{known}` is")))
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
