//! What a relay agent is asked, in the terms of both versions of DHCP, and its sockets.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::address::Grant;
use crate::interrupt;
use crate::sut::Failure;
use crate::sut::process::SLICE;

/// The longest datagram there is.
const LONGEST: usize = 64 << 10;

/// A relay agent between clients and the server.
pub(super) trait Relay: Send {
    /// A client without an address asks for something, is offered something, and takes it.
    fn bind(&mut self, link: Link, client: &[u8], wanted: Wanted) -> Result<Bound, Trouble>;

    /// A client that holds something wants to go on holding it.
    fn hold(&mut self, link: Link, client: &[u8], held: Grant, route: Route) -> Result<Bound, Trouble>;

    /// A client gives back what it holds, or believes it does. The server reads it before whatever comes next from a relay.
    fn give_back(&mut self, link: Link, client: &[u8], held: Grant, reason: Reason) -> Result<(), Trouble>;

    /// The server has read all that was sent when this is done, so that it may be asked by other ways.
    fn settle(&mut self) -> Result<(), Trouble>;

    /// Nobody wants to know any more what became of what was sent.
    fn forget(&mut self);
}

/// A pool as the relay sees it.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// The relay's address on it.
    pub(super) relay: IpAddr,
    /// All is given away that there is, as far as is known.
    pub(super) is_full: bool,
    /// So far are the pool's addresses from here where the server has them.
    pub(super) offset: u32,
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// Any address.
    Any,
    /// This address.
    Address(IpAddr),
    /// Any block of the length that the pool has.
    Block,
}

/// How a client goes about it that holds something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// Half of its time is over.
    Renew,
    /// It has started again, or its server is not to be reached: it remembers.
    Remember,
    /// It has started again, and remembers nothing.
    Anew,
}

/// Why it gives something back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// It no longer needs it.
    Done,
    /// Somebody else uses it.
    InUse,
}

/// What came of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    /// It holds this now.
    To(Grant),
    /// It was offered something else than it asked for, and did not take it.
    OfferedOther,
    /// It was denied.
    Denied,
    /// There is nothing to be had.
    Nothing,
}

/// Why nothing came of it.
pub(super) enum Trouble {
    /// The harness cannot go on, or the server breaks the rules.
    Failed(Failure),
    /// No answer came in the time that the contract gives.
    Silent,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failed(failure)
    }
}

/// The server does what no server of DHCP may do.
pub(super) fn breach(what: impl Into<String>) -> Trouble {
    Trouble::Failed(Failure::total(what))
}

/// A socket at an address of the relay's.
pub(super) struct Socket {
    socket: UdpSocket,
    datagram: Box<[u8]>,
}

impl Socket {
    pub(super) fn bind(at: SocketAddr) -> Result<Socket, Failure> {
        let bound = UdpSocket::bind(at).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let socket = bound.map_err(|error| Failure::Unable(format!("cannot be a relay at {at}: {error}")))?;
        Ok(Socket { socket, datagram: vec![0; LONGEST].into_boxed_slice() })
    }

    /// The same beside a server that has this port at all addresses and lets others have it, too.
    pub(super) fn bind_beside(at: SocketAddr) -> Result<Socket, Failure> {
        let bound = || -> Result<UdpSocket, rustix::io::Errno> {
            let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = rustix::net::socket_with(
                family,
                SocketType::DGRAM,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
                None,
            )?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            rustix::net::bind(&socket, &at)?;
            Ok(socket.into())
        };
        let socket = bound().map_err(|error| Failure::Unable(format!("cannot be a relay at {at}: {error}")))?;
        Ok(Socket { socket, datagram: vec![0; LONGEST].into_boxed_slice() })
    }

    /// Sends a datagram. Where nobody listens any more, nothing will be received.
    pub(super) fn send(&self, datagram: &[u8], to: SocketAddr) -> Result<(), Failure> {
        match self.socket.send_to(datagram, to) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(Failure::Unable(format!("cannot send to {to}: {error}"))),
        }
    }

    /// The next datagram, where one comes in time.
    pub(super) fn receive(&mut self, until: Instant) -> Result<Option<&[u8]>, Failure> {
        let broken = |error: Error| Failure::Unable(format!("cannot receive from the server: {error}"));
        loop {
            match self.socket.recv(&mut self.datagram) {
                Ok(size) => return Ok(Some(&self.datagram[..size])),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(broken(error)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            self.wait(left.min(SLICE)).map_err(broken)?;
        }
    }

    /// Waits until there is something to receive, and no longer than this.
    fn wait(&self, slice: Duration) -> Result<(), Error> {
        let slice = Timespec { tv_sec: slice.as_secs() as _, tv_nsec: slice.subsec_nanos() as _ };
        match poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)], Some(&slice)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Nothing is there yet, or nobody listened when something was sent.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}
