//! DHCPv6 as a relay agent passes it on (RFC 8415 section 19): requests in, what they came to out.
//!
//! Everything is answered, that there is nothing, too. One relay has one socket, the link is told in the message; answers come back
//! to its port, which it asks for (RFC 8357).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, IANA, IAPD, IAPrefix, Message, MessageType, OptionCode, Status};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use ipnet::{IpNet, Ipv6Net};

use super::relay::{Bound, Link, Reason, Relay, Route, Socket, Trouble, Wanted, breach};
use crate::address::Grant;
use crate::sut::Failure;
use crate::sut::process::deadline;

/// Each client has one identity association on each link.
const IAID: u32 = 1;
/// Type, hop count, link address and peer address.
const RELAY_HEADER: usize = 34;
/// Type and length of an option.
const OPTION_HEADER: usize = 4;
/// Code of the relay source port option (RFC 8357 section 5.2).
const RELAY_SOURCE_PORT: u16 = 135;
/// Code of the relay message option (RFC 8415 section 21.10).
const RELAY_MESSAGE: u16 = 9;
/// What comes before a client's identifier: a type of DUID that nobody has (RFC 8415 section 11.1).
const DUID_MARK: [u8; 2] = [0xff, 0xfe];
/// The client as the relay sees it; all are the same.
const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A relay agent for DHCPv6.
pub(super) struct Relay6 {
    server: SocketAddrV6,
    /// How long an answer may take.
    limit: Duration,
    /// From the first message on.
    socket: Option<Socket>,
    transaction: u32,
    /// As the server is called.
    server_id: &'static [u8],
}

impl Relay6 {
    /// A relay to this server; nothing is sent yet.
    pub(super) fn new(server: SocketAddrV6, server_id: &'static [u8], limit: Duration) -> Relay6 {
        Relay6 { server, limit, socket: None, transaction: 0, server_id }
    }

    /// A message and its answer.
    fn ask(&mut self, link: Link, mut message: Message) -> Result<Message, Trouble> {
        self.transaction = self.transaction.wrapping_add(1) & 0xff_ffff;
        message.set_xid_num(self.transaction);
        let datagram = forwarded(link, &message)?;
        let (server, until) = (SocketAddr::from(self.server), deadline(self.limit));
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(Socket::bind((Ipv6Addr::LOCALHOST, 0).into())?),
        };
        socket.send(&datagram, server)?;
        while let Some(datagram) = socket.receive(until)? {
            let answer = unwrapped(datagram)?;
            // Others are late answers of earlier ones.
            if answer.xid_num() == self.transaction {
                return Ok(answer);
            }
        }
        Err(Trouble::Silent)
    }

    /// A message that ends in a reply, and what that gives.
    fn request(&mut self, link: Link, message: Message) -> Result<Bound, Trouble> {
        let answer = self.ask(link, message)?;
        if answer.msg_type() != MessageType::Reply {
            return Err(breach(format!("{:?} is no answer to a request", answer.msg_type())));
        }
        given(&answer)
    }
}

impl Relay for Relay6 {
    /// Solicit, then request what is advertised.
    fn bind(&mut self, link: Link, client: &[u8], wanted: Wanted) -> Result<Bound, Trouble> {
        let mut solicit = message(MessageType::Solicit, client);
        solicit.opts_mut().insert(association(match wanted {
            Wanted::Any => Holding::SomeAddress,
            Wanted::Address(address) => Holding::Grant(Grant::Address(address)),
            Wanted::Block => Holding::SomeBlock,
        }));
        let advertised = self.ask(link, solicit)?;
        if advertised.msg_type() != MessageType::Advertise {
            return Err(breach(format!("{:?} is no answer to SOLICIT", advertised.msg_type())));
        }
        let offered = match given(&advertised)? {
            Bound::To(offered) => offered,
            other => return Ok(other),
        };
        if matches!(wanted, Wanted::Address(address) if Grant::Address(address) != offered) {
            return Ok(Bound::OfferedOther);
        }
        let request = self.to_server(MessageType::Request, client, offered);
        match self.request(link, request)? {
            // Somebody else was quicker, and the server gives another one instead, which was not asked for.
            Bound::To(other) if matches!(wanted, Wanted::Address(_)) && other != offered => {
                self.give_back(link, client, other, Reason::Done)?;
                Ok(Bound::OfferedOther)
            }
            bound => Ok(bound),
        }
    }

    fn hold(&mut self, link: Link, client: &[u8], held: Grant, route: Route) -> Result<Bound, Trouble> {
        let message = match route {
            Route::Renew => self.to_server(MessageType::Renew, client, held),
            Route::Remember => {
                let mut rebind = message(MessageType::Rebind, client);
                rebind.opts_mut().insert(association(Holding::Grant(held)));
                rebind
            }
            Route::Anew => return self.bind(link, client, Wanted::Any),
        };
        self.request(link, message)
    }

    fn give_back(&mut self, link: Link, client: &[u8], held: Grant, reason: Reason) -> Result<(), Trouble> {
        let kind = match (reason, held) {
            (Reason::InUse, Grant::Address(_)) => MessageType::Decline,
            // Nobody else can use a block, so it cannot be declined.
            _ => MessageType::Release,
        };
        let message = self.to_server(kind, client, held);
        match self.ask(link, message)?.msg_type() {
            MessageType::Reply => Ok(()),
            other => Err(breach(format!("{other:?} is no answer to {kind:?}"))),
        }
    }

    /// Whatever was answered has been read.
    fn settle(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn forget(&mut self) {}
}

impl Relay6 {
    /// A message about what the client holds, or was advertised, to the server that it has it from.
    fn to_server(&self, kind: MessageType, client: &[u8], held: Grant) -> Message {
        let mut message = message(kind, client);
        message.opts_mut().insert(DhcpOption::ServerId(self.server_id.to_vec()));
        message.opts_mut().insert(association(Holding::Grant(held)));
        message
    }
}

/// The client whose DUID this is; another DUID is shown whole.
pub(super) fn client_of_duid(duid: &[u8]) -> &[u8] {
    duid.strip_prefix(&DUID_MARK).unwrap_or(duid)
}

/// What a client says in its identity association.
enum Holding {
    /// It wants an address.
    SomeAddress,
    /// It wants a block.
    SomeBlock,
    /// It wants this, or holds it.
    Grant(Grant),
}

fn message(kind: MessageType, client: &[u8]) -> Message {
    let mut message = Message::new(kind);
    message.opts_mut().insert(DhcpOption::ClientId([&DUID_MARK, client].concat()));
    message.opts_mut().insert(DhcpOption::ElapsedTime(0));
    message
}

fn association(holding: Holding) -> DhcpOption {
    let mut opts = DhcpOptions::new();
    let (id, t1, t2) = (IAID, 0, 0);
    match holding {
        Holding::SomeAddress => {}
        Holding::SomeBlock => return DhcpOption::IAPD(IAPD { id, t1, t2, opts }),
        Holding::Grant(Grant::Block(prefix)) => {
            opts.insert(DhcpOption::IAPrefix(IAPrefix {
                preferred_lifetime: 0,
                valid_lifetime: 0,
                prefix_len: prefix.prefix_len(),
                prefix_ip: v6(prefix.network()),
                opts: DhcpOptions::new(),
            }));
            return DhcpOption::IAPD(IAPD { id, t1, t2, opts });
        }
        Holding::Grant(Grant::Address(address)) => opts.insert(DhcpOption::IAAddr(IAAddr {
            addr: v6(address),
            preferred_life: 0,
            valid_life: 0,
            opts: DhcpOptions::new(),
        })),
    }
    DhcpOption::IANA(IANA { id, t1, t2, opts })
}

/// Addresses of DHCPv6 are such addresses.
fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

/// The message in that of a relay.
fn forwarded(link: Link, message: &Message) -> Result<Vec<u8>, Failure> {
    let mut inner = Vec::with_capacity(256);
    let encoded = message.encode(&mut Encoder::new(&mut inner));
    encoded.map_err(|error| Failure::Unable(format!("a message of DHCP cannot be written: {error}")))?;
    let length = u16::try_from(inner.len()).map_err(|_| Failure::Unable("a message of DHCP is too long".to_owned()))?;
    let hops = 0;
    let mut datagram = vec![u8::from(MessageType::RelayForw), hops];
    datagram.extend(v6(link.relay).octets());
    datagram.extend(PEER.octets());
    // A port of 0: there is no other relay behind this one.
    datagram.extend([RELAY_SOURCE_PORT, 2, 0].map(u16::to_be_bytes).as_flattened());
    datagram.extend([RELAY_MESSAGE, length].map(u16::to_be_bytes).as_flattened());
    datagram.extend(inner);
    Ok(datagram)
}

/// The message in that to a relay. The library reads what is in it as one of another relay's, so it is taken out here.
fn unwrapped(datagram: &[u8]) -> Result<Message, Trouble> {
    let wrong = |why: &str| breach(format!("it sent what is no message of DHCP to a relay: {why}"));
    if datagram.first() != Some(&u8::from(MessageType::RelayRepl)) {
        return Err(wrong("it is of another kind"));
    }
    let mut options = datagram.get(RELAY_HEADER..).ok_or_else(|| wrong("it is too short"))?;
    while let Some((header, rest)) = options.split_first_chunk::<OPTION_HEADER>() {
        let [code, length] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
        let (option, others) =
            rest.split_at_checked(usize::from(length)).ok_or_else(|| wrong("an option is longer than it"))?;
        if code == RELAY_MESSAGE {
            return Message::decode(&mut Decoder::new(option)).map_err(|error| wrong(&error.to_string()));
        }
        options = others;
    }
    Err(wrong("no message is in it"))
}

/// What the server gives in its answer, or why it gives nothing.
fn given(answer: &Message) -> Result<Bound, Trouble> {
    let associations = answer.opts().iter().filter_map(|option| match option {
        DhcpOption::IANA(IANA { opts, .. }) | DhcpOption::IAPD(IAPD { opts, .. }) => Some(opts),
        _ => None,
    });
    // What is said of the whole message counts where nothing is said of its parts.
    let parts: Vec<&DhcpOptions> = associations.chain([answer.opts()]).collect();
    if let Some(grant) = parts.iter().find_map(|opts| granted(opts)) {
        return Ok(Bound::To(grant?));
    }
    match parts.iter().find_map(|opts| status(opts)) {
        Some(Status::NoAddrsAvail | Status::NoPrefixAvail) => Ok(Bound::Nothing),
        Some(Status::NoBinding | Status::NotOnLink) => Ok(Bound::Denied),
        // RFC 8415 section 18.3.4: what is no longer the client's comes with lifetimes of zero.
        None => Ok(Bound::Denied),
        Some(status) => Err(breach(format!("{:?} gives nothing, with status {status:?}", answer.msg_type()))),
    }
}

/// What is given for a time.
fn granted(opts: &DhcpOptions) -> Option<Result<Grant, Trouble>> {
    opts.iter().find_map(|option| match option {
        DhcpOption::IAAddr(IAAddr { addr, valid_life, .. }) if *valid_life > 0 => {
            Some(Ok(Grant::Address(IpAddr::V6(*addr))))
        }
        DhcpOption::IAPrefix(IAPrefix { prefix_ip, prefix_len, valid_lifetime, .. }) if *valid_lifetime > 0 => {
            let prefix = Ipv6Net::new(*prefix_ip, *prefix_len).ok().filter(|prefix| prefix.network() == *prefix_ip);
            let wrong = || breach(format!("it gives {prefix_ip}/{prefix_len}, which is no prefix"));
            Some(prefix.map(|prefix| Grant::Block(IpNet::V6(prefix))).ok_or_else(wrong))
        }
        _ => None,
    })
}

fn status(opts: &DhcpOptions) -> Option<Status> {
    match opts.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { relay: IpAddr::V6(Ipv6Addr::LOCALHOST), is_full: false, offset: 0 };

    /// A relay's message to the server, made into the server's to a relay.
    fn turned(message: &Message) -> Vec<u8> {
        let mut datagram = forwarded(LINK, message).unwrap_or_else(|_| panic!("it is short"));
        datagram[0] = MessageType::RelayRepl.into();
        datagram
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        let mut message = message(MessageType::Reply, b"\0a");
        let prefix = Grant::Block("fd00:1::/56".parse().unwrap());
        message.opts_mut().insert(association(Holding::Grant(prefix)));
        let datagram = turned(&message);
        assert!(unwrapped(&datagram).is_ok_and(|read| read == message));
        for length in 0..datagram.len() {
            assert!(unwrapped(&datagram[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn nothing_is_given_without_a_time() {
        let mut message = message(MessageType::Reply, b"\0a");
        message.opts_mut().insert(association(Holding::Grant(Grant::Address(PEER.into()))));
        assert!(matches!(given(&message), Ok(Bound::Denied)));
    }
}
