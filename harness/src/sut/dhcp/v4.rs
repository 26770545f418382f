//! DHCPv4 as a relay agent passes it on (RFC 2131, RFC 1542 section 4): requests in, what they came to out.
//!
//! A server that has nothing to give says nothing. So that silence need not be waited for, a question follows that is always
//! answered, from a client that nobody knows about an address of another network (RFC 2131 section 4.3.2: DHCPNAK). Servers that
//! answer in order have nothing more to say to what came before. The same shows that a message without an answer was read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::relay::{Bound, Link, Reason, Relay, Route, Socket, Trouble, Wanted, breach};
use crate::address::Grant;
use crate::sut::Failure;
use crate::sut::process::deadline;

/// A server that has an answer has given it by then, mostly; if not, the barrier costs a message more.
const SOON: Duration = Duration::from_millis(2);
/// More messages that are not answered could be lost: the buffer of a socket takes some hundred small ones.
const MOST_UNREAD: usize = 16;
/// No owner is called so: owners have no NUL.
const STRANGER: &[u8] = b"\0\0barrier";
/// An address of a network that nobody has (RFC 5737).
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A relay agent for DHCPv4.
pub(super) struct Relay4 {
    server: SocketAddrV4,
    reply_port: u16,
    /// Has the server the same port?
    is_beside: bool,
    /// How long an answer may take.
    limit: Duration,
    /// One for each relay address, from the first message on.
    sockets: HashMap<IpAddr, Socket>,
    transaction: u32,
    /// What was sent last, where that has no answer, and nothing was answered since.
    unsettled: Option<(Link, u32)>,
    /// So many messages may not have been read yet.
    unread: usize,
    /// As the server calls itself.
    server_id: Ipv4Addr,
}

impl Relay4 {
    /// A relay that has the server's own port, at its own addresses; nothing is sent yet.
    pub(super) fn beside(server: SocketAddrV4, limit: Duration) -> Relay4 {
        Relay4 { is_beside: true, ..Relay4::new(server, server.port(), limit) }
    }

    /// A relay between these two ports; nothing is sent yet.
    pub(super) fn new(server: SocketAddrV4, reply_port: u16, limit: Duration) -> Relay4 {
        let (sockets, server_id) = (HashMap::new(), *server.ip());
        Relay4 {
            server,
            reply_port,
            is_beside: false,
            limit,
            sockets,
            transaction: 0,
            unsettled: None,
            unread: 0,
            server_id,
        }
    }

    fn request(&mut self, link: Link, request: Message) -> Result<Bound, Trouble> {
        // Somebody may have taken it meanwhile, but nobody who is refused is told nothing.
        let Some(answer) = self.ask(Link { is_full: false, ..link }, request)? else { return Ok(Bound::Nothing) };
        match read(&answer)? {
            (MessageType::Ack, address) => Ok(Bound::To(Grant::Address(link.here(address).into()))),
            (MessageType::Nak, _) => Ok(Bound::Denied),
            (other, _) => Err(breach(format!("{other:?} is no answer to DHCPREQUEST"))),
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
        message.set_xid(self.transaction).set_giaddr(v4(Grant::Address(link.relay))).set_hops(1);
        let mut bytes = Vec::with_capacity(512);
        let encoded = message.encode(&mut Encoder::new(&mut bytes));
        encoded.map_err(|error| Failure::Unable(format!("a message of DHCP cannot be written: {error}")))?;
        let server = self.server.into();
        self.socket(link)?.send(&bytes, server).map(|()| self.transaction)
    }

    fn socket(&mut self, link: Link) -> Result<&mut Socket, Failure> {
        let place = SocketAddr::new(link.relay, self.reply_port);
        match self.sockets.entry(link.relay) {
            Entry::Occupied(bound) => Ok(bound.into_mut()),
            Entry::Vacant(none) if self.is_beside => Ok(none.insert(Socket::bind_beside(place)?)),
            Entry::Vacant(none) => Ok(none.insert(Socket::bind(place)?)),
        }
    }

    /// The next message of one of these transactions. Others are late answers of earlier ones.
    fn receive(&mut self, link: Link, ids: &[u32], until: Instant) -> Result<Option<Message>, Trouble> {
        while let Some(message) = self.next(link, until)? {
            if ids.contains(&message.xid()) {
                // What was sent before has been read before.
                (self.unsettled, self.unread) = (None, 0);
                return Ok(Some(message));
            }
            if self.unsettled.is_some_and(|(_, id)| id == message.xid()) {
                return Err(breach(format!("{:?} answers what has no answer", read(&message)?.0)));
            }
        }
        Ok(None)
    }

    /// The next message at all, where one comes in time.
    fn next(&mut self, link: Link, until: Instant) -> Result<Option<Message>, Trouble> {
        let Some(datagram) = self.socket(link)?.receive(until)? else { return Ok(None) };
        let message = Message::decode(&mut Decoder::new(datagram));
        message.map(Some).map_err(|error| breach(format!("it sent what is no message of DHCP: {error}")))
    }
}

impl Relay for Relay4 {
    /// Discover, then request what is offered.
    fn bind(&mut self, link: Link, client: &[u8], wanted: Wanted) -> Result<Bound, Trouble> {
        let wanted = match wanted {
            Wanted::Address(IpAddr::V4(address)) => Some(link.there(address)),
            _ => None,
        };
        let mut discover = message(MessageType::Discover, client);
        wanted.into_iter().for_each(|wanted| insert(&mut discover, DhcpOption::RequestedIpAddress(wanted)));
        let Some(offer) = self.ask(link, discover)? else { return Ok(Bound::Nothing) };
        let offered = match read(&offer)? {
            (MessageType::Offer, offered) => offered,
            (other, _) => return Err(breach(format!("{other:?} is no answer to DHCPDISCOVER"))),
        };
        if wanted.is_some_and(|wanted| wanted != offered) {
            return Ok(Bound::OfferedOther);
        }
        if let Some(DhcpOption::ServerIdentifier(id)) = offer.opts().get(OptionCode::ServerIdentifier) {
            self.server_id = *id;
        }
        let mut request = message(MessageType::Request, client);
        insert(&mut request, DhcpOption::RequestedIpAddress(offered));
        insert(&mut request, DhcpOption::ServerIdentifier(self.server_id));
        self.request(link, request)
    }

    /// By way of a relay, whoever renews and whoever rebinds say the same.
    fn hold(&mut self, link: Link, client: &[u8], held: Grant, route: Route) -> Result<Bound, Trouble> {
        let held = link.there(v4(held));
        let mut request = message(MessageType::Request, client);
        match route {
            Route::Renew => {
                request.set_ciaddr(held);
            }
            Route::Remember => insert(&mut request, DhcpOption::RequestedIpAddress(held)),
            Route::Anew => return self.bind(link, client, Wanted::Any),
        }
        self.request(link, request)
    }

    /// There is no answer to it.
    fn give_back(&mut self, link: Link, client: &[u8], held: Grant, reason: Reason) -> Result<(), Trouble> {
        let held = link.there(v4(held));
        let mut given = match reason {
            Reason::Done => message(MessageType::Release, client),
            Reason::InUse => message(MessageType::Decline, client),
        };
        match reason {
            Reason::Done => {
                given.set_ciaddr(held);
            }
            Reason::InUse => insert(&mut given, DhcpOption::RequestedIpAddress(held)),
        }
        insert(&mut given, DhcpOption::ServerIdentifier(self.server_id));
        let many = self.unread >= MOST_UNREAD;
        (self.unsettled, self.unread) = (Some((link, self.send(link, given)?)), self.unread + 1);
        if many { self.settle() } else { Ok(()) }
    }

    fn forget(&mut self) {
        self.unsettled = None;
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        let Some((link, id)) = self.unsettled.take() else { return Ok(()) };
        match self.receive_before_barrier(link, id)? {
            None => Ok(()),
            Some(answer) => Err(breach(format!("{:?} answers what has no answer", read(&answer)?.0))),
        }
    }
}

impl Link {
    /// An address of the pool, as the server has it.
    fn there(&self, address: Ipv4Addr) -> Ipv4Addr {
        Ipv4Addr::from_bits(address.to_bits().wrapping_add(self.offset))
    }

    /// An address that the server has, as one of the pool.
    fn here(&self, address: Ipv4Addr) -> Ipv4Addr {
        Ipv4Addr::from_bits(address.to_bits().wrapping_sub(self.offset))
    }
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

/// The address of a grant; those of DHCPv4 are such addresses.
fn v4(grant: Grant) -> Ipv4Addr {
    match grant {
        Grant::Address(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    }
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
