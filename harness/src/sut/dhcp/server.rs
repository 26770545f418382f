//! What the adapter needs of a DHCP server, whichever it is.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;

use super::kea::Kea;
use super::pools::{Pool, Pools};
use crate::address::Family;
use crate::operation::PoolShape;
use crate::sut::outcome::Outcome;
use crate::sut::{Failure, Resources};

/// A server that runs for us.
pub(super) trait Server: Send {
    /// Where it listens.
    fn address(&self) -> SocketAddrV4;

    /// The port of a relay to which it answers.
    fn reply_port(&self) -> u16;

    /// The address of the relay behind which the pool is, for a caller of this number.
    fn relay_address(&self, pool: &Pool, lane: u8) -> Ipv4Addr;

    /// From now on it has these pools. What is held in those that it had already stays.
    fn configure(&mut self, pools: &Pools) -> Outcome<()>;

    /// Refuses a malformed pool in the server's own right, where it does.
    fn refuse_malformed(&mut self, prefix: &str, shape: &PoolShape) -> Outcome<()>;

    /// What it says is held in a pool.
    fn leases(&mut self, pool: &Pool) -> Result<Vec<Lease>, Failure>;

    /// How many addresses it says a pool has, and how many of them are held.
    fn usage(&mut self, pool: &Pool) -> Result<(u128, u128), Failure>;

    /// Puts an address back that a client has declined, as somebody does who has looked after it.
    fn clear(&mut self, address: Ipv4Addr) -> Result<(), Failure>;

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
    pub(super) address: Ipv4Addr,
    /// The client's identifier.
    pub(super) client: Vec<u8>,
}

/// Starts the server that this program is.
pub(super) fn start(program: &Path, family: Family) -> Result<Box<dyn Server>, Failure> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match (&*name, family) {
        ("kea-dhcp4", Family::V4) => Ok(Box::new(Kea::start(program)?)),
        _ => Err(Failure::Unable(format!("`{name}` is no DHCP server that is known here; `kea-dhcp4` is"))),
    }
}

/// A port that is free on the loopback interface just now.
pub(super) fn free_port() -> Result<u16, Failure> {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    port.map(|address| address.port()).map_err(|error| Failure::Unable(format!("there is no free port: {error}")))
}
