//! The `cni` adapter: any CNI IPAM plugin, driven as a container runtime drives it.
//!
//! Pools are kept here and handed to the plugin as range sets of one network; an allocation is one
//! ADD with one range set a request, its owner the container, each on an interface of its own.
//! Addresses live with the plugin alone, in a data directory that is fresh after each reset. The
//! plugin is asked first, whatever the text; where it is laxer than the protocol (`/08`, CIDR or
//! mapped spellings, a gateway elsewhere), which CNI allows, the call is undone and `invalid`. A
//! grant that CNI would not allow either goes to the model.
//!
//! What is the adapter's own and says nothing about the plugin: that pools overlap, that a pool is in
//! use, who holds an address, edges within explicit ranges (never passed on), and malformed pools that
//! DEL takes without a complaint.

pub mod output;
mod plugin;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::home::Home;
use super::outcome::{self, Ending, Outcome, check_owner, refuse};
use super::strace::{Seen, Strace};
use super::{Failure, Resource, Resources, Sut, procfs};
use crate::address::{Family, Grant, Span, number, parse_address, parse_exclusion, parse_prefix, parse_range};
use crate::contract::{Contract, Limits, ReleaseUnknown};
use crate::fault::{Counted, Fault};
use crate::operation::{
    Allocation, Answer, Grants, Kind, Method, Operation, PoolShape, Request, Response, Text, Want, Written, is_name,
};
use crate::property::{Property, Violation};
use output::Complaint;
use plugin::{Plugin, Verb};

/// The one network that all pools belong to.
const NETWORK: &str = "poolproof";
/// So many deleted attachments are still looked at, in case they come back.
const REMEMBERED: usize = 8;
/// A container and an interface that never were.
const NOBODY: &str = "nobody";
const NO_INTERFACE: &str = "none";

/// A CNI IPAM plugin.
pub struct Cni {
    plugin: Plugin,
    contract: Contract,
    directory: Arc<Home>,
    /// Which of several runtimes at the same time this is; the first one is alone before and after.
    number: usize,
    /// How many others it has started.
    others: usize,
    /// What they have left behind.
    left: Arc<Mutex<Vec<Left>>>,
    pools: BTreeMap<Text, Pool>,
    live: Vec<Attachment>,
    /// What was live when this one was started beside others.
    inherited: Vec<Attachment>,
    /// Which of those that all runtimes know some runtime deletes, by owner and interface.
    claimed: Arc<Mutex<HashSet<(Text, String)>>>,
    /// The last few that were deleted, oldest first; none of them is live again.
    deleted: VecDeque<Attachment>,
    /// Faults are about to strike the next run of the plugin, or its steps are counted.
    strace: Option<Strace>,
    /// What that run did.
    seen: Seen,
    is_down: bool,
}

/// What a runtime has done that was at work beside others: what it made, and what it deleted of what was there before.
struct Left {
    made: Vec<Attachment>,
    deleted: Vec<Attachment>,
}

/// A pool as the plugin accepted it.
#[derive(Clone)]
struct Pool {
    prefix: IpNet,
    /// What may be handed out, the gateway not taken out.
    spans: Vec<Span>,
    gateway: Option<IpAddr>,
    /// Its ranges in the form of CNI.
    range_set: Value,
}

impl Pool {
    fn may_grant(&self, address: IpAddr) -> bool {
        self.gateway != Some(address) && self.spans.iter().any(|span| span.contains(number(address)))
    }
}

/// What one ADD made.
#[derive(Clone)]
struct Attachment {
    owner: Text,
    interface: String,
    grants: Vec<(Text, IpAddr)>,
    /// The configuration of its ADD, with the result in it.
    config: Value,
}

impl Attachment {
    fn is(&self, other: &Attachment) -> bool {
        self.owner == other.owner && self.interface == other.interface
    }

    fn holds(&self, pool: &str, address: IpAddr) -> bool {
        self.grants.iter().any(|(of, held)| **of == *pool && *held == address)
    }
}

impl Cni {
    /// Any CNI IPAM plugin that takes host-local's configuration, by the path of its program.
    pub fn new(plugin: PathBuf) -> Result<Cni, Failure> {
        Cni::with_timeout(plugin, Duration::from_millis(Contract::DEFAULT_TIMEOUT_MS))
    }

    /// The same with this time for each run of the plugin.
    pub fn with_timeout(plugin: PathBuf, timeout: Duration) -> Result<Cni, Failure> {
        let directory = Arc::new(Home::new()?);
        let plugin = Plugin::introduce(plugin, timeout, &directory)?;
        let contract = contract(&plugin);
        Ok(Cni {
            plugin,
            contract,
            directory,
            number: 0,
            others: 0,
            left: Arc::default(),
            claimed: Arc::default(),
            pools: BTreeMap::new(),
            live: Vec::new(),
            inherited: Vec::new(),
            deleted: VecDeque::new(),
            strace: None,
            seen: Seen::default(),
            is_down: false,
        })
    }

    /// Another runtime on the same folder, which knows what this one knows now. The names of its interfaces are its own. It
    /// cannot list what others make meanwhile: a plugin says only whether something is there that one knows of.
    fn runtime(&self, number: usize) -> Cni {
        let methods = self.contract.methods.without(Method::List);
        Cni {
            plugin: self.plugin.clone(),
            contract: Contract { methods, ..self.contract.clone() },
            directory: self.directory.clone(),
            number,
            others: 0,
            left: self.left.clone(),
            claimed: self.claimed.clone(),
            pools: self.pools.clone(),
            live: self.live.clone(),
            inherited: self.live.clone(),
            deleted: self.deleted.clone(),
            strace: None,
            seen: Seen::default(),
            is_down: false,
        }
    }

    /// The first runtime takes note of what others have done that are gone.
    fn take_over(&mut self) {
        if self.number != 0 {
            return;
        }
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for Left { made, deleted } in left {
            for gone in deleted {
                if let Some(place) = self.live.iter().position(|held| held.is(&gone)) {
                    self.bury(place);
                }
            }
            self.live.extend(made);
        }
    }

    /// A network configuration with these range sets.
    fn config(&self, range_sets: Vec<Value>) -> Value {
        let kind = self.plugin.name();
        let data = self.directory.state();
        json!({
            "cniVersion": self.plugin.version(),
            "name": NETWORK,
            "type": kind,
            "ipam": { "type": kind, "dataDir": data.to_string_lossy(), "ranges": range_sets },
        })
    }

    fn run(&mut self, verb: Verb, owner: &str, interface: &str, config: &Value) -> Result<RunOutput, Failure> {
        let strace = self.strace.take();
        let ran = self.plugin.run(verb, &container_id(owner), interface, config, &self.directory, strace.as_ref());
        let Some(strace) = strace else { return ran };
        self.seen = strace.seen();
        self.after_faults(ran)
    }

    /// What a run comes to in which a fault may have struck. Of a call that failed CNI does not say whether it happened: its
    /// caller must delete what it may have made.
    fn after_faults(&mut self, ran: Result<RunOutput, Failure>) -> Result<RunOutput, Failure> {
        match ran {
            Err(Failure::Misbehaved(_)) if self.seen.is_excused => {
                self.is_down = true;
                Ok(Err(Complaint::in_doubt("the plugin ended without an answer")))
            }
            Ok(Err(complaint)) if !self.seen.struck.is_empty() && complaint.is_of_files() => {
                Ok(Err(Complaint::in_doubt(complaint.text())))
            }
            ran => ran,
        }
    }

    fn pool(&self, name: &str) -> Outcome<&Pool> {
        self.pools.get(name).map_or_else(|| refuse(Kind::NotFound, "there is no such pool"), Ok)
    }

    fn create_pool(&mut self, name: &Text, prefix: &str, shape: &PoolShape) -> Outcome<Answer> {
        if !is_name(name) {
            return refuse(Kind::Invalid, "the name of the pool is malformed");
        }
        let (Some(gateway), true) = (&shape.gateway, shape.exclude.is_empty()) else {
            // Not to be said in CNI, so the plugin cannot be asked; malformed stays malformed.
            return match parse_prefix(prefix) {
                Some(prefix) if is_within(prefix, shape) => {
                    refuse(Kind::Unsupported, "CNI pools have a gateway and no exclusions")
                }
                _ => refuse(Kind::Invalid, "the pool is malformed"),
            };
        };
        let range_set = range_set(prefix, shape, gateway);
        // Deleting what never was changes nothing but makes the plugin judge the configuration.
        let config = self.config(vec![range_set.clone()]);
        if let Err(complaint) = self.run(Verb::Del, NOBODY, NO_INTERFACE, &config)? {
            return Err(Ending::Refused(complaint.refusal(Kind::Invalid)));
        }
        let Some(prefix) = parse_prefix(prefix).filter(|prefix| is_within(*prefix, shape)) else {
            return refuse(Kind::Invalid, "the plugin takes this pool, the protocol does not");
        };
        let span = Span::of_prefix(prefix);
        let overlaps = |other: &Pool| {
            Family::of(other.prefix.addr()) == Family::of(prefix.addr()) && Span::of_prefix(other.prefix).overlaps(span)
        };
        if self.pools.contains_key(name) || self.pools.values().any(overlaps) {
            return refuse(Kind::Conflict, "the name is taken, or the prefix overlaps another pool");
        }
        let (spans, gateway) = (spans(prefix, shape), parse_address(gateway));
        self.pools.insert(name.clone(), Pool { prefix, spans, gateway, range_set });
        Ok(Answer::Done)
    }

    fn delete_pool(&mut self, name: &str) -> Outcome<Answer> {
        self.pool(name)?;
        if self.live.iter().any(|attachment| attachment.grants.iter().any(|(pool, _)| **pool == *name)) {
            return refuse(Kind::InUse, "the pool has allocations");
        }
        self.pools.remove(name);
        Ok(Answer::Done)
    }

    fn allocate(&mut self, owner: &Text, requests: &[Request], ttl_ms: Option<u64>) -> Outcome<Answer> {
        check_owner(owner)?;
        if requests.is_empty() {
            return refuse(Kind::Invalid, "there are no requests");
        }
        if ttl_ms.is_some() {
            return refuse(Kind::Unsupported, "CNI has no leases");
        }
        let Wanted { prefixes, range_sets, named, understood, is_foreign, is_reserved } = self.wanted(requests)?;
        let interface = self.free_interface(owner);
        let plain = self.config(range_sets);
        let mut config = plain.clone();
        if !named.is_empty() {
            // The convention for capabilities. Unlike `args` it is meant for runtimes, and unlike
            // CNI_ARGS it holds any text and any number of addresses.
            config["runtimeConfig"] = json!({ "ips": named });
        }
        let added = self.run(Verb::Add, owner, &interface, &config)?;
        let result = match added {
            Ok(output) => output::granted(self.plugin.version(), &output, &prefixes)?,
            Err(complaint) => {
                // As runtimes must after an ADD that failed.
                self.delete_silently(owner, &interface, &plain)?;
                let mut refusal = complaint.refusal(Kind::Internal);
                // host-local first looks for any address where it finds none of the named ones in a set,
                // so a full pool hides that the name was wrong.
                let is_hidden_by_exhaustion = refusal.kind == Kind::Exhausted && is_reserved;
                // CNI takes an odd spelling for the address, and a name that is foreign to its own pool for
                // another pool's, and complains that it is taken there.
                let is_hidden_by_conflict = refusal.kind == Kind::Conflict && is_foreign;
                if is_hidden_by_exhaustion || is_hidden_by_conflict {
                    refusal.kind = Kind::Invalid;
                }
                return Err(Ending::Refused(refusal));
            }
        };
        let is_granted = |name: &IpAddr| result.addresses.contains(name);
        if is_foreign && understood.iter().all(is_granted) && self.may_grant(requests, &result.addresses) {
            self.delete_silently(owner, &interface, &plain)?;
            return refuse(Kind::Invalid, "the plugin takes this address for the pool's, the protocol does not");
        }
        let grants: Grants = result.addresses.iter().map(|address| Grant::Address(*address)).collect();
        let pools = requests.iter().map(|request| request.pool.clone());
        let held = pools.zip(result.addresses).collect();
        config["prevResult"] = result.json;
        self.deleted.retain(|old| old.owner != *owner || old.interface != interface);
        self.live.push(Attachment { owner: owner.clone(), interface, grants: held, config });
        Ok(Answer::Granted { grants, expires_ms: None })
    }

    /// Are these addresses their pools' to grant, and held by nobody?
    fn may_grant(&self, requests: &[Request], addresses: &[IpAddr]) -> bool {
        let is_held = |pool: &str, address: IpAddr| self.live.iter().any(|attachment| attachment.holds(pool, address));
        requests.iter().zip(addresses).all(|(request, address)| {
            let pool = self.pools.get(&request.pool);
            pool.is_some_and(|pool| pool.may_grant(*address)) && !is_held(&request.pool, *address)
        })
    }

    /// The requests in the terms of CNI.
    fn wanted(&self, requests: &[Request]) -> Outcome<Wanted> {
        let mut wanted = Wanted::default();
        for (index, request) in requests.iter().enumerate() {
            let pool = self.pool(&request.pool)?;
            if requests[..index].iter().any(|other| other.pool == request.pool) {
                return refuse(Kind::Unsupported, "one CNI call takes one address of a pool");
            }
            match &request.want {
                Want::Any => {}
                Want::Named(written) => {
                    let address = address_in(pool.prefix, written);
                    wanted.is_foreign |= address.is_none();
                    wanted.is_reserved |= address.is_none_or(|address| !pool.may_grant(address));
                    wanted.understood.extend(read_by_cni(&written.to_string()));
                    wanted.named.push(written.to_string());
                }
                Want::Block(_) => return refuse(Kind::Unsupported, "CNI has no blocks"),
            }
            wanted.prefixes.push(pool.prefix);
            wanted.range_sets.push(pool.range_set.clone());
        }
        Ok(wanted)
    }

    /// The first interface that the owner does not hold. One that was deleted is taken again, as
    /// runtimes do.
    fn free_interface(&self, owner: &str) -> String {
        let held = |name: &str| self.live.iter().any(|held| *held.owner == *owner && held.interface == *name);
        // One of any n + 1 names is free where n are held.
        let name = |index| match self.number {
            0 => format!("eth{index}"),
            number => format!("eth{index}-{number}"),
        };
        let mut names = (0..=self.live.len()).map(name);
        names.find(|name| !held(name)).unwrap_or_default()
    }

    /// A DEL that has nothing to complain about, be there something to delete or not.
    fn delete_silently(&mut self, owner: &str, interface: &str, config: &Value) -> Outcome<()> {
        let Err(complaint) = self.run(Verb::Del, owner, interface, config)? else { return Ok(()) };
        if complaint.is_in_doubt() {
            return Err(Ending::Refused(complaint.refusal(Kind::UnknownOutcome)));
        }
        let message = format!("DEL of what is not there must succeed, but the plugin says: {}", complaint.shown());
        Err(Failure::Misbehaved(Violation::new(Property::Idempotent, message)).into())
    }

    /// Deletes a live attachment, twice where `again`.
    fn detach(&mut self, place: usize, again: bool) -> Outcome<Attachment> {
        let gone = self.live[place].clone();
        if let Err(complaint) = self.run(Verb::Del, &gone.owner, &gone.interface, &gone.config)? {
            if complaint.is_in_doubt() && !self.is_there(&gone)? {
                self.bury(place);
            }
            return Err(Ending::Refused(complaint.refusal(Kind::Internal)));
        }
        if again {
            self.delete_silently(&gone.owner, &gone.interface, &gone.config)?;
        }
        self.bury(place);
        Ok(gone)
    }

    /// A live attachment is no more.
    fn bury(&mut self, place: usize) {
        let gone = self.live.remove(place);
        if self.deleted.len() == REMEMBERED {
            self.deleted.pop_front();
        }
        self.deleted.push_back(gone);
    }

    fn release(&mut self, pool_name: &str, written: &Written, owner: Option<&Text>) -> Outcome<Answer> {
        let Some(owner) = owner else { return refuse(Kind::Invalid, "an owner is needed") };
        check_owner(owner)?;
        let pool = self.pool(pool_name)?;
        let Some(address) = address_in(pool.prefix, written) else {
            return refuse(Kind::Invalid, "this is no address of the pool");
        };
        let config = self.config(vec![pool.range_set.clone()]);
        let holds = |held: &Attachment| held.holds(pool_name, address);
        let own = self.live.iter().position(|held| held.owner == *owner && holds(held));
        if let Some(place) = own.filter(|place| self.claims(*place)) {
            if self.live[place].grants.len() > 1 {
                return refuse(Kind::Unsupported, "CNI releases what one call was granted only as a whole");
            }
            self.detach(place, false)?;
            return Ok(Answer::Done);
        }
        // A stale DEL where there was one, else one of what never was: neither may change anything.
        let stale = self.deleted.iter().rfind(|old| old.owner == *owner && holds(old));
        let stale = stale.map(|old| (old.interface.clone(), old.config.clone()));
        let (interface, config) = stale.unwrap_or_else(|| (NO_INTERFACE.to_owned(), config));
        self.delete_silently(owner, &interface, &config)?;
        if self.number != 0 {
            return refuse(Kind::Unsupported, "one runtime of several cannot know whether somebody else holds it");
        }
        if self.live.iter().any(holds) { refuse(Kind::NotOwner, "somebody else holds it") } else { Ok(Answer::Done) }
    }

    /// Is it this runtime that deletes an attachment? Of those that all runtimes know, the first that comes deletes it.
    fn claims(&self, place: usize) -> bool {
        let held = &self.live[place];
        let is_common = self.inherited.iter().any(|old| old.is(held));
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        !is_common || claimed.insert((held.owner.clone(), held.interface.clone()))
    }

    fn release_owner(&mut self, owner: &Text) -> Outcome<Answer> {
        check_owner(owner)?;
        let mut released = Vec::new();
        while let Some(place) = self.live.iter().position(|held| held.owner == *owner) {
            if !self.claims(place) {
                self.bury(place);
                continue;
            }
            let gone = self.detach(place, true)?;
            released.extend(gone.grants.into_iter().map(|(pool, address)| (pool, Grant::Address(address))));
        }
        Ok(Answer::Released(released))
    }

    /// What CHECK finds, among what should be there and what should not. It says only that there is
    /// *something* for an attachment (all that host-local looks for), so an address that was
    /// exchanged for another, or one of two that was lost, does not show.
    fn list(&mut self, pool: Option<&Text>) -> Outcome<Answer> {
        if let Some(pool) = pool {
            self.pool(pool)?;
        }
        let is_asked = |name: &Text| pool.is_none_or(|pool| pool == name);
        let known: Vec<Attachment> = self.live.iter().chain(&self.deleted).cloned().collect();
        let mut allocations = Vec::new();
        for attachment in known.into_iter().filter(|known| known.grants.iter().any(|(name, _)| is_asked(name))) {
            if !self.is_there(&attachment)? {
                continue;
            }
            let asked = attachment.grants.into_iter().filter(|(name, _)| is_asked(name));
            let owner = &attachment.owner;
            allocations.extend(asked.map(|(pool, address)| Allocation {
                pool,
                address: Grant::Address(address),
                owner: owner.clone(),
                expires_ms: None,
            }));
        }
        Ok(Answer::Listed(allocations))
    }

    fn is_there(&mut self, attachment: &Attachment) -> Outcome<bool> {
        let checked = self.run(Verb::Check, &attachment.owner, &attachment.interface, &attachment.config)?;
        let Err(complaint) = checked else { return Ok(true) };
        let refusal = complaint.refusal(Kind::NotFound);
        match refusal.kind {
            // These say nothing about the attachment.
            Kind::Busy | Kind::Storage => Err(Ending::Refused(refusal)),
            _ => Ok(false),
        }
    }

    fn answer(&mut self, operation: &Operation) -> Outcome<Answer> {
        match operation {
            Operation::CreatePool { pool, prefix, shape } => self.create_pool(pool, prefix, shape),
            Operation::DeletePool { pool } => self.delete_pool(pool),
            Operation::Allocate { owner, requests, ttl_ms } => self.allocate(owner, requests, *ttl_ms),
            Operation::Release { pool, address, owner } => self.release(pool, address, owner.as_ref()),
            Operation::ReleaseOwner { owner } => self.release_owner(owner),
            Operation::List { pool } if self.contract.has(Method::List) => self.list(pool.as_ref()),
            _ => refuse(Kind::Unsupported, "CNI plugins have no such call"),
        }
    }
}

impl Sut for Cni {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.directory = Arc::new(Home::new()?);
        self.left = Arc::default();
        self.others = 0;
        self.pools.clear();
        self.live.clear();
        self.deleted.clear();
        self.disarm();
        self.is_down = false;
        Ok(())
    }

    /// There is no process between calls: the next one finds what the last one left.
    fn crash(&mut self) -> Result<(), Failure> {
        self.is_down = false;
        Ok(())
    }

    fn arm(&mut self, faults: &[Fault]) -> Result<(), Failure> {
        self.seen = Seen::default();
        self.strace = Some(Strace::new(faults, &self.directory.state())?);
        Ok(())
    }

    fn disarm(&mut self) -> Counted {
        self.strace = None;
        Counted { steps: std::mem::take(&mut self.seen).steps, allocations: 0 }
    }

    /// Nothing runs between calls, but files stay.
    fn resources(&self) -> Resources {
        Resources::UNKNOWN.with(Resource::Left, procfs::files_below(self.directory.path()))
    }

    fn struck(&self) -> Vec<Fault> {
        self.seen.struck.clone()
    }

    fn is_down(&self) -> bool {
        self.is_down
    }

    /// Plugins are started whenever somebody likes to. A runtime deletes only what it made, or what was there before.
    fn another(&mut self) -> Result<Option<Box<dyn Sut + Send>>, Failure> {
        self.take_over();
        self.others += 1;
        Ok(Some(Box::new(self.runtime(self.others))))
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        self.take_over();
        outcome::respond(self.answer(operation))
    }

    /// A plugin is a new process each time; a reset gives it a new folder.
    fn forget(&mut self) -> bool {
        true
    }

    fn ends_late_calls(&self) -> bool {
        true
    }

    fn hurry(&mut self, limit: Option<Duration>) {
        self.plugin.hurry(limit);
    }

    fn diagnostics(&self) -> String {
        self.plugin.last_errors().to_owned()
    }
}

/// A runtime beside others says what it has done.
impl Drop for Cni {
    fn drop(&mut self) {
        if self.number == 0 {
            return;
        }
        let own = format!("-{}", self.number);
        let made = self.live.iter().filter(|held| held.interface.ends_with(&own)).cloned().collect();
        let deleted = self.inherited.iter().filter(|old| !self.live.iter().any(|held| held.is(old))).cloned().collect();
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(Left { made, deleted });
    }
}

/// What a run of the plugin printed, or its complaint.
type RunOutput = Result<Vec<u8>, Complaint>;

/// The requests of one ADD.
#[derive(Default)]
struct Wanted {
    prefixes: Vec<IpNet>,
    range_sets: Vec<Value>,
    /// Addresses asked for by name, as written.
    named: Vec<String>,
    /// Those of them that CNI takes for addresses.
    understood: Vec<IpAddr>,
    /// One of them is no address of its pool's prefix, or malformed.
    is_foreign: bool,
    /// One of them may not be handed out; foreign ones included.
    is_reserved: bool,
}

/// What is promised for a plugin. The reasons are facts about host-local 1.1.1.
fn contract(plugin: &Plugin) -> Contract {
    let methods = [Method::PoolDelete, Method::Release, Method::ReleaseOwner, Method::Reset];
    Contract {
        // CNI before 0.4.0 has no CHECK.
        methods: methods.into_iter().chain(plugin.can_check().then_some(Method::List)).collect(),
        // State is on disk and each call a process of its own, so there is nothing to restart or to
        // crash between calls: every scenario tests it as it is.
        durable: false,
        // DEL succeeds whether or not there was anything.
        release_unknown: ReleaseUnknown::Ok,
        limits: Limits {
            // "Network … too small to allocate from" beyond these.
            longest_prefix: [30, 126],
            shortest_prefix: [0, 0],
            // "IPNet IP and Mask version mismatch": plugins in Go take such an address for IPv4.
            mapped_pools: false,
            special_addresses: true,
            largest_usage: u128::MAX,
            // It takes the first address where none is named.
            gateway_required: true,
            // Its configuration has none.
            exclusions: false,
            // "subnets … overlap".
            overlapping_ranges: false,
            several_requests: true,
            // "range set 0 overlaps with 1".
            pool_twice: false,
            mixed_blocks: true,
            // DEL names an attachment, not an address.
            partial_release: false,
            raw: false,
        },
        ..Contract::default()
    }
}

/// A container identifier for each owner, never the same for two: the owner itself where CNI allows
/// it, else its bytes in hexadecimal after `x-`, which therefore no other owner may begin with.
fn container_id(owner: &str) -> String {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let begins_well = owner.starts_with(|first: char| first.is_ascii_alphanumeric()) && !owner.starts_with("x-");
    if begins_well && owner.bytes().all(is_allowed) {
        return owner.to_owned();
    }
    owner.bytes().fold("x-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

/// The address meant, where it is one of this prefix.
fn address_in(prefix: IpNet, written: &Written) -> Option<IpAddr> {
    match written.meaning()? {
        Grant::Address(address) if prefix.contains(&address) => Some(address),
        _ => None,
    }
}

/// The address that a plugin may take this text for: CNI writes addresses with prefix lengths, too, and
/// Go takes mapped ones for IPv4.
fn read_by_cni(text: &str) -> Option<IpAddr> {
    let address = text.split('/').next().unwrap_or(text);
    parse_address(address).map(|address| address.to_canonical())
}

/// Does the protocol allow this shape for the prefix?
fn is_within(prefix: IpNet, shape: &PoolShape) -> bool {
    let (family, span) = (Family::of(prefix.addr()), Span::of_prefix(prefix));
    let within = |range: Option<(Family, Span)>| range.is_some_and(|(of, range)| of == family && span.covers(range));
    let gateway = shape.gateway.as_deref().map(|gateway| parse_range(gateway, gateway));
    gateway.is_none_or(within)
        && shape.ranges.iter().all(|(first, last)| within(parse_range(first, last)))
        && shape.exclude.iter().all(|what| within(parse_exclusion(what)))
}

/// The ranges of a pool for CNI. Well-formed ones lose the edges of the prefix: host-local spares
/// them only where it chooses the range, and takes an explicit range at its word. Everything else
/// goes to the plugin as it was written.
fn range_set(prefix: &str, shape: &PoolShape, gateway: &str) -> Value {
    if shape.ranges.is_empty() {
        return json!([{ "subnet": prefix, "gateway": gateway }]);
    }
    let parsed = parse_prefix(prefix);
    let ends = |(first, last): &(Text, Text)| {
        let within = parsed.zip(parse_range(first, last)).filter(|(prefix, (family, range))| {
            Family::of(prefix.addr()) == *family && Span::of_prefix(*prefix).covers(*range)
        });
        let Some((prefix, (family, range))) = within else { return Some((first.to_string(), last.to_string())) };
        let range = without_edges(prefix, range)?;
        Some((family.address(range.first).to_string(), family.address(range.last).to_string()))
    };
    let range = |(first, last): (String, String)| json!({ "subnet": prefix, "rangeStart": first, "rangeEnd": last, "gateway": gateway });
    let ranges: Vec<Value> = shape.ranges.iter().filter_map(ends).map(range).collect();
    if ranges.is_empty() {
        // Nothing can be handed out; the plugin finds so by itself where only the gateway is left.
        return json!([range((gateway.to_owned(), gateway.to_owned()))]);
    }
    Value::Array(ranges)
}

/// The spans of a pool that the protocol allows, the gateway not taken out.
fn spans(prefix: IpNet, shape: &PoolShape) -> Vec<Span> {
    if shape.ranges.is_empty() {
        return without_edges(prefix, Span::of_prefix(prefix)).into_iter().collect();
    }
    let ranges = shape.ranges.iter().filter_map(|(first, last)| parse_range(first, last));
    ranges.filter_map(|(_, range)| without_edges(prefix, range)).collect()
}

/// The part of a range within a prefix that is not one of its edges.
fn without_edges(prefix: IpNet, range: Span) -> Option<Span> {
    let family = Family::of(prefix.addr());
    let Span { first, last } = Span::of_prefix(prefix);
    let has_edges = prefix.prefix_len() + 2 <= family.bits();
    let (first, last) = match family {
        _ if !has_edges => (first, last),
        Family::V4 => (first + 1, last - 1),
        Family::V6 => (first + 1, last),
    };
    Span::new(range.first.max(first), range.last.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::text;

    #[test]
    fn owners_become_container_ids_and_never_the_same() {
        assert_eq!(container_id("web-1.a_b"), "web-1.a_b");
        assert_eq!(container_id("x-61"), "x-782d3631");
        assert_eq!(container_id("ä"), "x-c3a4");
        for odd in ["-a", "a b", "a;b", "a\n", ".a", "x-"] {
            assert!(container_id(odd).starts_with("x-"), "{odd:?}");
        }
    }

    #[test]
    fn explicit_ranges_lose_the_edges_only() {
        let clipped = |prefix: &str, ranges: &[(&str, &str)]| {
            let ranges = ranges.iter().map(|(first, last)| (text(first), text(last))).collect();
            let set = range_set(prefix, &PoolShape { ranges, ..PoolShape::default() }, "GW");
            let ends = |range: &Value| format!("{}-{}", range["rangeStart"], range["rangeEnd"]).replace('"', "");
            set.as_array().unwrap().iter().map(ends).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(clipped("10.0.0.0/29", &[("10.0.0.0", "10.0.0.7")]), "10.0.0.1-10.0.0.6");
        assert_eq!(clipped("10.0.0.0/29", &[("10.0.0.0", "10.0.0.0"), ("10.0.0.2", "10.0.0.3")]), "10.0.0.2-10.0.0.3");
        assert_eq!(clipped("10.0.0.0/29", &[("10.0.0.7", "10.0.0.7")]), "GW-GW");
        assert_eq!(
            clipped("fd00::/64", &[("fd00::", "fd00::ffff:ffff:ffff:ffff")]),
            "fd00::1-fd00::ffff:ffff:ffff:ffff"
        );
        assert_eq!(clipped("10.0.0.0/29", &[("10.0.0.5", "10.1.0.0")]), "10.0.0.5-10.1.0.0");
        assert_eq!(clipped("10.0.0.0/29", &[("x", "010.0.0.1")]), "x-010.0.0.1");
    }
}
