//! DHCPv4 as a relay agent passes it on (RFC 2131, RFC 1542 section 4): requests in, what they came to out.
//!
//! A server that has nothing to give says nothing. So that silence need not be waited for, a question follows that is always
//! answered, from a client that nobody knows about an address of another network (RFC 2131 section 4.3.2: DHCPNAK). Servers that
//! answer in order have nothing more to say to what came before. The same shows that a message without an answer was read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::interrupt;
use crate::sut::Failure;
use crate::sut::process::{SLICE, deadline};

/// A server that has an answer has given it by then, mostly; if not, the barrier costs a message more.
const SOON: Duration = Duration::from_millis(2);
/// The longest datagram there is.
const LONGEST: usize = 64 << 10;
/// No owner is called so: owners have no NUL.
const STRANGER: &[u8] = b"\0\0barrier";
/// An address of a network that nobody has (RFC 5737).
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A pool as the relay sees it.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// The relay's address on it, to which the server answers.
    pub(super) relay: Ipv4Addr,
    /// All is given away that there is, as far as is known: an answer is not to be waited for.
    pub(super) is_full: bool,
}

/// How somebody goes about it who holds a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// Half of its time is over, or seven eighths are: the same for a relay.
    Renew,
    /// It has started again, and remembers.
    Reboot,
    /// It has started again, and does not.
    Anew,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bound {
    /// It has this address now.
    To(Ipv4Addr),
    /// It was offered this one in place of the one it asked for, and did not take it.
    Offered(Ipv4Addr),
    /// It was denied.
    Denied,
    /// There was no answer.
    Unanswered,
}

/// Why there is no answer at all, not even to the barrier.
pub(super) enum Trouble {
    /// The harness cannot go on, or the server breaks the rules.
    Failed(Failure),
    /// Nothing came in the time that the contract gives.
    Silent,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failed(failure)
    }
}

/// A relay agent.
pub(super) struct Relay {
    server: SocketAddrV4,
    reply_port: u16,
    /// How long an answer may take.
    limit: Duration,
    /// One for each relay address, from the first message on.
    sockets: HashMap<Ipv4Addr, UdpSocket>,
    transaction: u32,
    /// As the server calls itself.
    server_id: Ipv4Addr,
    datagram: Box<[u8]>,
}

impl Relay {
    /// A relay between these two ports; nothing is sent yet.
    pub(super) fn new(server: SocketAddrV4, reply_port: u16, limit: Duration) -> Relay {
        Relay {
            server,
            reply_port,
            limit,
            sockets: HashMap::new(),
            transaction: 0,
            server_id: *server.ip(),
            datagram: vec![0; LONGEST].into_boxed_slice(),
        }
    }

    /// A client without an address asks for one, or for this one: discover, then request what is offered.
    pub(super) fn bind(&mut self, link: Link, client: &[u8], wanted: Option<Ipv4Addr>) -> Result<Bound, Trouble> {
        let mut discover = message(MessageType::Discover, client);
        wanted.into_iter().for_each(|wanted| insert(&mut discover, DhcpOption::RequestedIpAddress(wanted)));
        let Some(offer) = self.ask(link, discover)? else { return Ok(Bound::Unanswered) };
        let offered = match read(&offer)? {
            (MessageType::Offer, offered) => offered,
            (other, _) => return Err(breach(format!("{other:?} is no answer to DHCPDISCOVER"))),
        };
        if wanted.is_some_and(|wanted| wanted != offered) {
            return Ok(Bound::Offered(offered));
        }
        if let Some(DhcpOption::ServerIdentifier(id)) = offer.opts().get(OptionCode::ServerIdentifier) {
            self.server_id = *id;
        }
        let mut request = message(MessageType::Request, client);
        insert(&mut request, DhcpOption::RequestedIpAddress(offered));
        insert(&mut request, DhcpOption::ServerIdentifier(self.server_id));
        self.request(link, request)
    }

    /// A client that holds an address wants to go on holding it.
    pub(super) fn hold(&mut self, link: Link, client: &[u8], held: Ipv4Addr, route: Route) -> Result<Bound, Trouble> {
        let mut request = message(MessageType::Request, client);
        match route {
            Route::Renew => {
                request.set_ciaddr(held);
            }
            Route::Reboot => insert(&mut request, DhcpOption::RequestedIpAddress(held)),
            Route::Anew => return self.bind(link, client, None),
        }
        self.request(link, request)
    }

    /// A client gives an address back that it holds, or believes it does.
    pub(super) fn release(&mut self, link: Link, client: &[u8], address: Ipv4Addr) -> Result<(), Trouble> {
        let mut release = message(MessageType::Release, client);
        release.set_ciaddr(address);
        self.tell(link, release)
    }

    /// A client has found that somebody else uses the address that it was given.
    pub(super) fn decline(&mut self, link: Link, client: &[u8], address: Ipv4Addr) -> Result<(), Trouble> {
        let mut decline = message(MessageType::Decline, client);
        insert(&mut decline, DhcpOption::RequestedIpAddress(address));
        self.tell(link, decline)
    }

    fn request(&mut self, link: Link, request: Message) -> Result<Bound, Trouble> {
        // Somebody may have taken it meanwhile, but nobody who is refused is told nothing.
        let Some(answer) = self.ask(Link { is_full: false, ..link }, request)? else { return Ok(Bound::Unanswered) };
        match read(&answer)? {
            (MessageType::Ack, address) => Ok(Bound::To(address)),
            (MessageType::Nak, _) => Ok(Bound::Denied),
            (other, _) => Err(breach(format!("{other:?} is no answer to DHCPREQUEST"))),
        }
    }

    /// A message to which there is no answer; it has been read when this is done.
    fn tell(&mut self, link: Link, mut message: Message) -> Result<(), Trouble> {
        insert(&mut message, DhcpOption::ServerIdentifier(self.server_id));
        let id = self.send(link, message)?;
        match self.receive_before_barrier(link, id)? {
            None => Ok(()),
            Some(answer) => Err(breach(format!("{:?} answers what has no answer", read(&answer)?.0))),
        }
    }

    /// A message and its answer, where there is one.
    fn ask(&mut self, link: Link, message: Message) -> Result<Option<Message>, Trouble> {
        let id = self.send(link, message)?;
        if !link.is_full
            && let Some(answer) = self.receive(link, &[id], deadline(SOON.min(self.limit)))?
        {
            return Ok(Some(answer));
        }
        self.receive_before_barrier(link, id)
    }

    /// The answer to this transaction, which comes before that to the barrier.
    fn receive_before_barrier(&mut self, link: Link, id: u32) -> Result<Option<Message>, Trouble> {
        let mut barrier = message(MessageType::Request, STRANGER);
        insert(&mut barrier, DhcpOption::RequestedIpAddress(ELSEWHERE));
        let barrier_id = self.send(link, barrier)?;
        let answer = self.receive(link, &[id, barrier_id], deadline(self.limit))?.ok_or(Trouble::Silent)?;
        if answer.xid() == id {
            return Ok(Some(answer));
        }
        match read(&answer)? {
            (MessageType::Nak, _) => Ok(None),
            (other, _) => Err(breach(format!("{other:?} is no answer to a stranger who asks for another network"))),
        }
    }

    /// Sends it as from this link; gives the number of its transaction.
    fn send(&mut self, link: Link, mut message: Message) -> Result<u32, Failure> {
        self.transaction = self.transaction.wrapping_add(1);
        message.set_xid(self.transaction).set_giaddr(link.relay).set_hops(1);
        let mut bytes = Vec::with_capacity(512);
        let encoded = message.encode(&mut Encoder::new(&mut bytes));
        encoded.map_err(|error| Failure::Unable(format!("a message of DHCP cannot be written: {error}")))?;
        let server = self.server;
        let sent = self.socket(link)?.send_to(&bytes, server);
        // Where nobody listens any more the next receipt shows it.
        match sent {
            Ok(_) => Ok(self.transaction),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(self.transaction),
            Err(error) => Err(Failure::Unable(format!("cannot send to {}: {error}", self.server))),
        }
    }

    fn socket(&mut self, link: Link) -> Result<&UdpSocket, Failure> {
        let place = SocketAddrV4::new(link.relay, self.reply_port);
        match self.sockets.entry(link.relay) {
            Entry::Occupied(bound) => Ok(bound.into_mut()),
            Entry::Vacant(none) => {
                let bound = UdpSocket::bind(place).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
                let cannot = |error| Failure::Unable(format!("cannot be a relay at {place}: {error}"));
                Ok(none.insert(bound.map_err(cannot)?))
            }
        }
    }

    /// The next message of one of these transactions. Others are late answers of earlier ones.
    fn receive(&mut self, link: Link, ids: &[u32], until: Instant) -> Result<Option<Message>, Trouble> {
        while let Some(message) = self.next(link, until)? {
            if ids.contains(&message.xid()) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next message at all, where one comes in time.
    fn next(&mut self, link: Link, until: Instant) -> Result<Option<Message>, Trouble> {
        let broken = |error: std::io::Error| Failure::Unable(format!("cannot receive from the server: {error}"));
        let mut datagram = std::mem::take(&mut self.datagram);
        let received = loop {
            let socket = &self.sockets[&link.relay];
            match socket.recv(&mut datagram) {
                Ok(size) => break Ok(Some(size)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
                Err(error) => break Err(broken(error)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Ok(None);
            }
            if interrupt::requested() {
                break Err(Failure::Interrupted);
            }
            if let Err(error) = wait(socket, left.min(SLICE)) {
                break Err(broken(error));
            }
        };
        let message = received.map(|size| size.map(|size| Message::decode(&mut Decoder::new(&datagram[..size]))));
        self.datagram = datagram;
        match message? {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(error)) => Err(breach(format!("it sent what is no message of DHCP: {error}"))),
        }
    }
}

/// Waits until there is something to receive, and no longer than this.
fn wait(socket: &UdpSocket, slice: Duration) -> std::io::Result<()> {
    let slice = Timespec { tv_sec: slice.as_secs() as _, tv_nsec: slice.subsec_nanos() as _ };
    match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)], Some(&slice)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn breach(what: String) -> Trouble {
    Trouble::Failed(Failure::total(what))
}

/// A message of this client.
fn message(kind: MessageType, client: &[u8]) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(0, none, none, none, none, &hardware_address(client));
    insert(&mut message, DhcpOption::MessageType(kind));
    insert(&mut message, DhcpOption::ClientIdentifier(client.to_vec()));
    message
}

fn insert(message: &mut Message, option: DhcpOption) {
    message.opts_mut().insert(option);
}

/// A hardware address for each client, locally administered. Two clients may have the same one: what tells them apart is the
/// identifier.
fn hardware_address(client: &[u8]) -> [u8; 6] {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    let [_, _, _, a, b, c, d, e] = hasher.finish().to_be_bytes();
    [0x02, a, b, c, d, e]
}

/// Which kind of message it is, and the address that it gives.
fn read(message: &Message) -> Result<(MessageType, Ipv4Addr), Trouble> {
    match message.opts().msg_type() {
        Some(kind) => Ok((kind, message.yiaddr())),
        None => Err(breach("it sent a message without a type".to_owned())),
    }
}
