//! The brute-force judge: the protocol's sentences over plain sets of single addresses.
//!
//! Nothing here is clever or quick. A pool is the set of its addresses, a block is the set of what
//! it covers, and whether a call fits is tried out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use poolproof::address::Grant;
use poolproof::contract::{Contract, ReleaseBy, ReleaseUnknown, Repeat};
use poolproof::operation::{Allocation, Answer, Kind, Operation, PoolShape, Request, Response, Text, Want, Written};

/// "a system may answer `invalid` where a value or a resulting time passes 2^53-1"
pub(crate) const END_OF_TIME: u64 = (1 << 53) - 1;

type Addresses = BTreeSet<IpAddr>;

/// A pool as the sets of its addresses.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) prefix: Addresses,
    pub(crate) length: u8,
    pub(crate) allocatable: Addresses,
}

#[derive(Clone, Default)]
struct State {
    pools: BTreeMap<Text, Pool>,
    /// Live allocations only.
    held: Vec<Allocation>,
    now_ms: u64,
}

/// What the protocol says of an answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Ruling {
    Legal,
    Illegal,
    /// The protocol leaves it open.
    Open,
}

/// What may be answered to a call.
#[derive(Default)]
pub(crate) struct Options {
    /// Refusals that apply: the call must not be done.
    pub(crate) must: BTreeSet<Kind>,
    /// Refusals that are right although the call may be done as well.
    pub(crate) may: BTreeSet<Kind>,
    /// Refusals of which the protocol does not say whether they apply.
    open: BTreeSet<Kind>,
    /// It cannot be done, but the protocol does not say what kind of refusal that is.
    nameless: bool,
    /// The protocol does not say whether it may be done.
    open_done: bool,
}

impl Options {
    fn must(&mut self, kind: Kind, applies: bool) {
        if applies {
            self.must.insert(kind);
        }
    }

    fn may(&mut self, kind: Kind, applies: bool) {
        if applies {
            self.may.insert(kind);
        }
    }

    fn open(&mut self, kinds: &[Kind], applies: bool) {
        if applies {
            self.open.extend(kinds);
        }
    }

    /// The call must be refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.nameless || !self.must.is_empty()
    }
}

pub(crate) struct Judge {
    contract: Contract,
    state: State,
    /// The state to which a rollback leads.
    saved: Option<State>,
}

impl Judge {
    pub(crate) fn new(contract: Contract) -> Judge {
        Judge { contract, state: State::default(), saved: None }
    }

    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }

    pub(crate) fn pools(&self) -> &BTreeMap<Text, Pool> {
        &self.state.pools
    }

    pub(crate) fn held(&self) -> &[Allocation] {
        &self.state.held
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.state.now_ms
    }

    /// "`reset`, an exit and a crash roll it back."
    pub(crate) fn restarted(&mut self) {
        self.state = self.saved.take().unwrap_or_else(|| self.state.clone());
    }

    pub(crate) fn rule(&self, call: &Operation, response: &Response) -> Ruling {
        let options = self.options(call);
        match response {
            // "Where several refusals apply, any of them is right."
            Err(refusal) if options.must.contains(&refusal.kind) || options.may.contains(&refusal.kind) => {
                Ruling::Legal
            }
            Err(refusal) if options.open.contains(&refusal.kind) => Ruling::Open,
            Err(_) => Ruling::Illegal,
            Ok(_) if options.open_done => Ruling::Open,
            Ok(answer) if !options.is_refused() && self.is_right(call, answer) => Ruling::Legal,
            Ok(_) => Ruling::Illegal,
        }
    }

    pub(crate) fn options(&self, call: &Operation) -> Options {
        let mut options = Options::default();
        match call {
            Operation::CreatePool { pool, prefix, shape } => self.create(&mut options, pool, prefix, shape),
            Operation::UpdatePool { pool, shape } => self.update(&mut options, pool, shape),
            Operation::DeletePool { pool } => {
                self.known_pool(&mut options, pool);
                options.must(Kind::InUse, self.held_in(pool).next().is_some());
            }
            Operation::Allocate { owner, requests, ttl_ms } => {
                options.must(Kind::Invalid, !is_name(owner) || requests.is_empty() || *ttl_ms == Some(0));
                options.may(Kind::Invalid, ttl_ms.is_some_and(|ttl_ms| self.passes_the_end(ttl_ms)));
                requests.iter().for_each(|request| self.request(&mut options, owner, request));
                self.together(&mut options, owner, requests);
            }
            Operation::Release { pool, address, owner } => {
                self.release(&mut options, pool, address, owner.as_ref());
            }
            Operation::Renew { pool, address, owner, ttl_ms } => {
                options.must(Kind::Invalid, !is_name(owner) || *ttl_ms == 0);
                options.may(Kind::Invalid, self.passes_the_end(*ttl_ms));
                self.known_pool(&mut options, pool);
                match self.holder(&mut options, pool, address) {
                    // "Without `ttl_ms` an allocation has no end […]; `renew` on it may give it one or be `invalid`."
                    Some(held) => {
                        options.must(Kind::NotOwner, held.owner != *owner);
                        options.may(Kind::Invalid, held.expires_ms.is_none());
                    }
                    None => options.must(Kind::NotFound, parse(address).is_some()),
                }
            }
            Operation::ReleaseOwner { owner } => options.must(Kind::Invalid, !is_name(owner)),
            Operation::Begin => options.must(Kind::Invalid, self.saved.is_some()),
            Operation::Commit | Operation::Rollback => options.must(Kind::Invalid, self.saved.is_none()),
            Operation::List { pool: None } => {}
            Operation::List { pool: Some(pool) } | Operation::Usage { pool } => self.known_pool(&mut options, pool),
            Operation::Advance { ms } => {
                options.must(Kind::Invalid, self.saved.is_some());
                options.may(Kind::Invalid, self.passes_the_end(*ms));
            }
            Operation::Raw { .. } => options.open_done = true,
        }
        options
    }

    fn passes_the_end(&self, ms: u64) -> bool {
        self.state.now_ms.saturating_add(ms) > END_OF_TIME
    }

    fn held_in(&self, pool: &Text) -> impl Iterator<Item = &Allocation> {
        self.state.held.iter().filter(move |held| held.pool == *pool)
    }

    fn holder_of(&self, pool: &Text, address: IpAddr) -> Option<&Allocation> {
        self.held_in(pool).find(|held| covered(held.address).contains(&address))
    }

    /// "Any method may answer `invalid` to missing or ill-typed fields; for a malformed pool name `not_found` is right
    /// too."
    fn known_pool(&self, options: &mut Options, pool: &Text) {
        options.must(Kind::NotFound, !self.state.pools.contains_key(pool));
        options.must(Kind::Invalid, !is_name(pool));
    }

    fn create(&self, options: &mut Options, pool: &Text, prefix: &Text, shape: &PoolShape) {
        let read = parse_prefix(prefix);
        let is_well = read.is_some_and(|(first, length)| read_pool(&self.contract, first, length, shape).is_some());
        options.must(Kind::Invalid, !is_name(pool) || !is_well);
        // "for a malformed pool name `not_found` is right too": of a call that makes the pool, too?
        options.open(&[Kind::NotFound], !is_name(pool));
        let addresses = read.map(|(first, length)| block(first, length)).unwrap_or_default();
        let overlaps = self.state.pools.values().any(|other| !other.prefix.is_disjoint(&addresses));
        options.must(Kind::Conflict, self.state.pools.contains_key(pool));
        let disjoint = self.contract.disjoint_pools;
        options.must(Kind::Conflict, disjoint && overlaps && !is_well);
        let Some(new) = read.and_then(|(first, length)| read_pool(&self.contract, first, length, shape)) else {
            return;
        };
        // "a pool that overlaps another is refused": do pools overlap by their prefixes or by their addresses?
        let shares = self.state.pools.values().any(|other| !other.allocatable.is_disjoint(&new.allocatable));
        options.must(Kind::Conflict, disjoint && shares);
        options.open(&[Kind::Conflict], disjoint && overlaps);
        options.open_done |= disjoint && overlaps && !shares;
        // "`invalid`: […] empty range": is a pool of which the exclusions leave nothing an empty range?
        options.open(&[Kind::Invalid], new.allocatable.is_empty());
    }

    fn update(&self, options: &mut Options, pool: &Text, shape: &PoolShape) {
        self.known_pool(options, pool);
        options.must(Kind::Invalid, read_shape(shape).is_none());
        // "anything outside the prefix": is that to be said of a pool that does not exist?
        options.open(&[Kind::Invalid], !self.state.pools.contains_key(pool));
        let Some(old) = self.state.pools.get(pool) else { return };
        let Some(first) = old.prefix.first() else { return };
        match read_pool(&self.contract, *first, old.length, shape) {
            Some(new) => {
                let falls_out = |held: &Allocation| !covered(held.address).is_subset(&new.allocatable);
                options.must(Kind::InUse, self.held_in(pool).any(falls_out));
                // As for a new pool.
                options.open(&[Kind::Invalid], new.allocatable.is_empty());
            }
            None => {
                options.must(Kind::Invalid, true);
                // "`in_use`: a live allocation would fall outside": outside of what, where the new shape is malformed?
                options.open(&[Kind::InUse], self.held_in(pool).next().is_some());
            }
        }
    }

    /// What is to be said of one request alone.
    fn request(&self, options: &mut Options, owner: &Text, request: &Request) {
        let named = match &request.want {
            Want::Named(address) => Some(parse(address)),
            _ => None,
        };
        // A block in CIDR form is no address.
        options.must(Kind::Invalid, matches!(named, Some(None | Some(Grant::Block(_)))));
        // "a block request where `blocks` is false […] is `unsupported`": is a block in `address` a block request?
        // And does a malformed request like that take room from the others?
        options.open(&[Kind::Unsupported, Kind::Exhausted], matches!(named, Some(Some(Grant::Block(_)))));
        self.known_pool(options, &request.pool);
        if let Want::Block(length) = request.want {
            options.must(Kind::Unsupported, !self.contract.blocks);
            // "Any method may answer `invalid` to […] ill-typed fields", and "where several refusals apply, any of them
            // is right": do others apply to a block that the system does not have, or to a length that no prefix has?
            let longest = self.state.pools.get(&request.pool).map_or(32, |pool| bits(&pool.prefix));
            options.open(&[Kind::Invalid, Kind::Exhausted], !self.contract.blocks || length > longest);
        }
        // "An address asked for by name must be one of them, else `invalid`": of a pool that does not exist?
        options.open(&[Kind::Invalid], !self.state.pools.contains_key(&request.pool) && request.want != Want::Any);
        let Some(pool) = self.state.pools.get(&request.pool) else { return };
        let mine = self.held_in(&request.pool).any(|held| held.owner == *owner);
        options.must(Kind::Conflict, mine && self.contract.repeat == Repeat::Conflict);
        // "`same`": what does an owner get who holds an address and asks for a certain one, or for a block?
        let again = mine && self.contract.repeat == Repeat::Same;
        let alike = request.want == Want::Any && self.repeated(owner, &request.pool).is_some();
        options.open(&[Kind::Conflict, Kind::Invalid], again && !alike);
        options.open_done |= again && !alike;
        match (&request.want, named) {
            (Want::Named(_), Some(Some(Grant::Address(address)))) => {
                // "An address asked for by name must be one of them, else `invalid`."
                options.must(Kind::Invalid, !pool.allocatable.contains(&address));
                let holder = self.holder_of(&request.pool, address);
                options.must(Kind::Conflict, holder.is_some_and(|held| !again || held.owner != *owner));
                let elsewhere = self
                    .state
                    .held
                    .iter()
                    .any(|held| held.pool != request.pool && covered(held.address).contains(&address));
                options.open(&[Kind::Conflict], !self.contract.disjoint_pools && elsewhere);
            }
            (Want::Block(length), _) if self.contract.blocks => {
                // `exhausted` or `invalid`: the protocol does not say which where no block of this length can be.
                let possible = (pool.length..=bits(&pool.prefix)).contains(length);
                options.nameless |= !possible;
                options.open(&[Kind::Invalid, Kind::Exhausted], !possible);
            }
            _ => {}
        }
    }

    /// "Several requests in one call: the call is refused only if no assignment fits."
    fn together(&self, options: &mut Options, owner: &Text, requests: &[Request]) {
        let named: Vec<_> =
            requests.iter().filter_map(|request| Some((&request.pool, named_address(request)?))).collect();
        let twice = named.iter().enumerate().any(|(index, one)| named[..index].contains(one));
        options.nameless |= twice;
        // The protocol does not say what kind of refusal naming an address twice is.
        options.open(&[Kind::Conflict, Kind::Invalid, Kind::Exhausted], twice);
        let fits = self.assign(owner, requests, &mut Rng::with_seed(0)).is_some();
        options.must(Kind::Exhausted, !fits);
        // Where pools overlap: is what one of them has handed out, or hands out in the same call, taken in the others?
        let pools: BTreeSet<&Text> = requests.iter().map(|request| &request.pool).collect();
        let met = pools.iter().any(|one| pools.iter().any(|other| one < other && self.overlap(one, other)));
        let held =
            |pool: &&Text| self.state.held.iter().any(|held| held.pool != **pool && self.overlap(pool, &held.pool));
        options.open(&[Kind::Exhausted], !self.contract.disjoint_pools && pools.iter().any(held));
        options.open(&[Kind::Conflict, Kind::Exhausted], !self.contract.disjoint_pools && met);
    }

    fn overlap(&self, one: &Text, other: &Text) -> bool {
        let [one, other] = [one, other].map(|pool| self.state.pools.get(pool));
        one.zip(other).is_some_and(|(one, other)| !one.prefix.is_disjoint(&other.prefix))
    }

    /// Grants for the requests that name nothing, in their order; `None` where no assignment fits. Requests that are
    /// refused for themselves are left out.
    fn assign(&self, owner: &Text, requests: &[Request], rng: &mut Rng) -> Option<Vec<Grant>> {
        let mut taken: BTreeSet<(Text, IpAddr)> = BTreeSet::new();
        for held in &self.state.held {
            taken.extend(covered(held.address).into_iter().map(|address| (held.pool.clone(), address)));
        }
        // "A request for any address never takes one that the same call names."
        taken.extend(requests.iter().filter_map(|request| Some((request.pool.clone(), named_address(request)?))));
        let open: Vec<&Request> = requests.iter().filter(|request| !matches!(request.want, Want::Named(_))).collect();
        self.place(owner, &open, &taken, rng)
    }

    fn place(
        &self,
        owner: &Text,
        open: &[&Request],
        taken: &BTreeSet<(Text, IpAddr)>,
        rng: &mut Rng,
    ) -> Option<Vec<Grant>> {
        let Some((request, rest)) = open.split_first() else { return Some(Vec::new()) };
        let Some(pool) = self.state.pools.get(&request.pool) else { return self.place(owner, rest, taken, rng) };
        let mut eligible = match request.want {
            Want::Block(length) if !self.contract.blocks || !(pool.length..=bits(&pool.prefix)).contains(&length) => {
                return self.place(owner, rest, taken, rng);
            }
            Want::Block(length) => blocks(pool, length),
            _ => match self.repeated(owner, &request.pool) {
                Some(grant) => return Some([vec![grant], self.place(owner, rest, taken, rng)?].concat()),
                None => pool.allocatable.iter().map(|address| Grant::Address(*address)).collect(),
            },
        };
        let is_free = |grant: &Grant| {
            let mut covered = covered(*grant).into_iter();
            covered
                .all(|address| pool.allocatable.contains(&address) && !taken.contains(&(request.pool.clone(), address)))
        };
        eligible.retain(is_free);
        rng.shuffle(&mut eligible);
        eligible.into_iter().find_map(|grant| {
            let mut taken = taken.clone();
            taken.extend(covered(grant).into_iter().map(|address| (request.pool.clone(), address)));
            Some([vec![grant], self.place(owner, rest, &taken, rng)?].concat())
        })
    }

    /// What a second call for any address of a pool yields, where that is the same address.
    fn repeated(&self, owner: &Text, pool: &Text) -> Option<Grant> {
        let mine = self.held_in(pool).find(|held| held.owner == *owner && matches!(held.address, Grant::Address(_)));
        mine.filter(|_| self.contract.repeat == Repeat::Same).map(|held| held.address)
    }

    /// Some right grants for a call that is not refused.
    pub(crate) fn some_grants(&self, owner: &Text, requests: &[Request], rng: &mut Rng) -> Option<Vec<Grant>> {
        let mut assigned = self.assign(owner, requests, rng)?.into_iter();
        requests.iter().map(|request| named_address(request).map(Grant::Address).or_else(|| assigned.next())).collect()
    }

    fn release(&self, options: &mut Options, pool: &Text, address: &Written, owner: Option<&Text>) {
        let anyone = self.contract.release_by == ReleaseBy::Anyone;
        options.must(Kind::Invalid, owner.is_none() && !anyone);
        options.must(Kind::Invalid, owner.is_some_and(|owner| !is_name(owner)));
        self.known_pool(options, pool);
        let holder = self.holder(options, pool, address);
        if let Some(held) = holder {
            options.must(Kind::NotOwner, !anyone && owner.is_some_and(|owner| *owner != held.owner));
        } else if self.contract.release_unknown == ReleaseUnknown::NotFound {
            options.must(Kind::NotFound, parse(address).is_some());
        } else {
            // "`release` […] of an address that is expired, reserved or outside the allocatable ones are `not_found`",
            // "any method may answer `invalid` to […] ill-typed fields", and "releasing what nobody holds: `ok`": which
            // of them, where both apply?
            let pool = self.state.pools.get(pool);
            let is_free = |address| pool.is_some_and(|pool| pool.allocatable.contains(&address));
            let plain = matches!(parse(address), Some(Grant::Address(address)) if is_free(address));
            options.open(&[Kind::NotFound, Kind::Invalid], !plain);
            options.open_done = !plain;
        }
    }

    /// Who holds exactly this; what is to be said of the address alone.
    fn holder(&self, options: &mut Options, pool: &Text, address: &Written) -> Option<&Allocation> {
        options.must(Kind::Invalid, parse(address).is_none());
        let grant = parse(address)?;
        let held = self.held_in(pool).find(|held| held.address == grant);
        let known = self.state.pools.get(pool);
        if held.is_none() {
            // "(`invalid` is right too outside the prefix)"
            let outside = known.is_some_and(|known| covered(grant).is_disjoint(&known.prefix));
            options.must(Kind::Invalid, outside && matches!(grant, Grant::Address(_)));
            // "a block is named in CIDR form": the protocol does not say what a CIDR form is that names no block held,
            // nor whose an address is that lies in a block.
            let inside = covered(grant).into_iter().any(|address| self.holder_of(pool, address).is_some());
            options.open(&[Kind::Invalid], matches!(grant, Grant::Block(_)));
            options.open(&[Kind::NotOwner], inside);
            // "Addresses are compared as addresses, not as text": is 10.0.0.5/32 the address 10.0.0.5?
            let same = self.held_in(pool).any(|held| covered(held.address) == covered(grant));
            options.open(&[Kind::NotFound, Kind::Invalid, Kind::NotOwner], same);
            options.open_done |= same;
        }
        held
    }

    /// Is this the result of a call that is done?
    fn is_right(&self, call: &Operation, answer: &Answer) -> bool {
        match (call, answer) {
            (Operation::Allocate { owner, requests, ttl_ms }, Answer::Granted { grants, expires_ms }) => {
                let end = ttl_ms.map(|ttl_ms| self.state.now_ms + ttl_ms);
                *expires_ms == end && grants.len() == requests.len() && self.are_granted(owner, requests, grants)
            }
            (Operation::ReleaseOwner { owner }, Answer::Released(released)) => {
                let mine = self.state.held.iter().filter(|held| held.owner == *owner);
                same(mine.map(|held| (held.pool.clone(), held.address)).collect(), released.clone())
            }
            (Operation::Renew { ttl_ms, .. }, Answer::Renewed { expires_ms }) => {
                *expires_ms == self.state.now_ms + ttl_ms
            }
            (Operation::List { pool }, Answer::Listed(listed)) => {
                let row = |held: &Allocation| (held.pool.clone(), held.address, held.owner.clone(), held.expires_ms);
                let asked = self.state.held.iter().filter(|held| pool.as_ref().is_none_or(|pool| *pool == held.pool));
                same(asked.map(row).collect(), listed.iter().map(row).collect())
            }
            (Operation::Usage { pool }, Answer::Usage { allocatable, allocated }) => {
                let (all, held) = self.usage(pool);
                (*allocatable, *allocated) == (all.into(), held.into())
            }
            (Operation::Advance { ms }, Answer::Now { now_ms }) => *now_ms == self.state.now_ms + ms,
            (
                Operation::CreatePool { .. }
                | Operation::UpdatePool { .. }
                | Operation::DeletePool { .. }
                | Operation::Release { .. }
                | Operation::Begin
                | Operation::Commit
                | Operation::Rollback,
                Answer::Done,
            ) => true,
            _ => false,
        }
    }

    /// How many addresses are allocatable, and how many are held.
    pub(crate) fn usage(&self, pool: &Text) -> (u128, u128) {
        let allocatable = self.state.pools.get(pool).map_or(0, |pool| pool.allocatable.len());
        let held: usize = self.held_in(pool).map(|held| covered(held.address).len()).sum();
        (allocatable as u128, held as u128)
    }

    fn are_granted(&self, owner: &Text, requests: &[Request], grants: &[Grant]) -> bool {
        let named: Vec<_> = requests.iter().map(|request| (&request.pool, named_address(request))).collect();
        let mut taken: BTreeSet<(&Text, IpAddr)> = BTreeSet::new();
        requests.iter().zip(grants).all(|(request, grant)| {
            let Some(pool) = self.state.pools.get(&request.pool) else { return false };
            let fits = match (&request.want, grant) {
                (Want::Any, Grant::Address(address)) => !named.contains(&(&request.pool, Some(*address))),
                (Want::Named(_), Grant::Address(address)) => named_address(request) == Some(*address),
                (Want::Block(length), Grant::Block(prefix)) => prefix.prefix_len() == *length,
                _ => false,
            };
            let again = self.repeated(owner, &request.pool);
            let mut covered = covered(*grant).into_iter();
            fits && (again == Some(*grant)
                || again.is_none()
                    && covered.all(|address| {
                        let free =
                            pool.allocatable.contains(&address) && self.holder_of(&request.pool, address).is_none();
                        free && taken.insert((&request.pool, address))
                    }))
        })
    }

    /// Takes over what a legal answer says.
    pub(crate) fn apply(&mut self, call: &Operation, answer: &Answer) {
        let state = &mut self.state;
        match (call, answer) {
            (Operation::CreatePool { pool, prefix, shape }, _) => {
                let read = parse_prefix(prefix);
                let made = read.and_then(|(first, length)| read_pool(&self.contract, first, length, shape));
                state.pools.extend(made.map(|made| (pool.clone(), made)));
            }
            (Operation::UpdatePool { pool, shape }, _) => {
                let Some(old) = state.pools.get_mut(pool) else { return };
                let first = old.prefix.first().copied();
                let new = first.and_then(|first| read_pool(&self.contract, first, old.length, shape));
                *old = new.unwrap_or_else(|| old.clone());
            }
            (Operation::DeletePool { pool }, _) => drop(state.pools.remove(pool)),
            (Operation::Allocate { owner, requests, .. }, Answer::Granted { grants, expires_ms }) => {
                for (request, grant) in requests.iter().zip(grants) {
                    state.held.retain(|held| held.pool != request.pool || held.address != *grant);
                    let (pool, owner) = (request.pool.clone(), owner.clone());
                    state.held.push(Allocation { pool, address: *grant, owner, expires_ms: *expires_ms });
                }
            }
            (Operation::Release { pool, address, .. }, _) => {
                state.held.retain(|held| held.pool != *pool || Some(held.address) != parse(address));
            }
            (Operation::ReleaseOwner { owner }, _) => state.held.retain(|held| held.owner != *owner),
            (Operation::Renew { pool, address, .. }, Answer::Renewed { expires_ms }) => {
                let renewed =
                    state.held.iter_mut().filter(|held| held.pool == *pool && Some(held.address) == parse(address));
                renewed.for_each(|held| held.expires_ms = Some(*expires_ms));
            }
            (Operation::Begin, _) => self.saved = Some(state.clone()),
            (Operation::Commit, _) => self.saved = None,
            (Operation::Rollback, _) => self.restarted(),
            (Operation::Advance { .. }, Answer::Now { now_ms }) => {
                state.now_ms = *now_ms;
                // "a lease is held while now < expires"
                state.held.retain(|held| held.expires_ms.is_none_or(|end| *now_ms < end));
            }
            _ => {}
        }
    }
}

/// "1 to 255 bytes without NUL"
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && !text.contains('\0')
}

fn same<T: Ord>(mut one: Vec<T>, mut other: Vec<T>) -> bool {
    one.sort();
    other.sort();
    one == other
}

/// What is written: an address, or a block in CIDR form.
fn parse(address: &Written) -> Option<Grant> {
    match address {
        Written::Plain(grant) => Some(*grant),
        Written::Odd(text) if text.contains('/') => {
            let (first, length) = parse_prefix(text)?;
            Grant::parse(&format!("{first}/{length}"))
        }
        Written::Odd(text) => text.parse().ok().map(Grant::Address),
    }
}

fn named_address(request: &Request) -> Option<IpAddr> {
    match &request.want {
        Want::Named(address) => match parse(address)? {
            Grant::Address(address) => Some(address),
            Grant::Block(_) => None,
        },
        _ => None,
    }
}

/// The address `by` places further on; `None` past the end of the family.
pub(crate) fn after(address: IpAddr, by: i128) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let number = i128::from(v4.to_bits()).checked_add(by)?;
            u32::try_from(number).ok().map(|number| IpAddr::V4(Ipv4Addr::from_bits(number)))
        }
        IpAddr::V6(v6) => v6.to_bits().checked_add_signed(by).map(|number| IpAddr::V6(Ipv6Addr::from_bits(number))),
    }
}

fn bits(prefix: &Addresses) -> u8 {
    if prefix.first().is_some_and(IpAddr::is_ipv4) { 32 } else { 128 }
}

/// All addresses of a tiny prefix.
fn block(first: IpAddr, length: u8) -> Addresses {
    let bits = if first.is_ipv4() { 32 } else { 128 };
    (0..1 << (bits - length)).filter_map(|place| after(first, place)).collect()
}

pub(crate) fn covered(grant: Grant) -> Addresses {
    match grant {
        Grant::Address(address) => Addresses::from([address]),
        Grant::Block(prefix) => block(prefix.network(), prefix.prefix_len()),
    }
}

/// Every block of this length in a pool's prefix, free or not.
fn blocks(pool: &Pool, length: u8) -> Vec<Grant> {
    let size = 1 << (bits(&pool.prefix) - length);
    let firsts = pool.prefix.iter().step_by(size);
    firsts.filter_map(|first| Grant::parse(&format!("{first}/{length}"))).collect()
}

/// "A prefix is ADDRESS/DECIMAL without host bits or leading zeros (no netmask, no bare address)."
fn parse_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length = (0..=128u8).find(|number| number.to_string() == length)?;
    let (bits, number) = match address {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let has_host_bits = (0..bits - length.min(bits)).any(|bit| number >> bit & 1 == 1);
    (length <= bits && !has_host_bits).then_some((address, length))
}

/// The first and the last address of a range.
fn parse_range(first: &str, last: &str) -> Option<(IpAddr, IpAddr)> {
    let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some((first, last))
}

/// "ADDRESS", "FIRST-LAST" or a prefix.
fn parse_exclusion(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((first, length)) = parse_prefix(text) {
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let others = 1i128.checked_shl(u32::from(bits - length)).filter(|size| *size > 0)?;
        return Some((first, after(first, others - 1)?));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    parse_range(first, last)
}

/// Ranges, gateway and exclusions, all as spans.
type Spans = Vec<(IpAddr, IpAddr)>;

fn read_shape(shape: &PoolShape) -> Option<(Spans, Spans)> {
    let ranges = shape.ranges.iter().map(|(first, last)| parse_range(first, last)).collect::<Option<Spans>>()?;
    let gateway = shape.gateway.iter().map(|gateway| parse_range(gateway, gateway));
    let without = gateway.chain(shape.exclude.iter().map(|text| parse_exclusion(text))).collect::<Option<Spans>>()?;
    Some((ranges, without))
}

/// "the union of its ranges (without ranges: the whole prefix), less the gateway, less the exclusions, less the edges
/// where `reserves_edges` holds"; `None` for "anything outside the prefix".
fn read_pool(contract: &Contract, first: IpAddr, length: u8, shape: &PoolShape) -> Option<Pool> {
    let prefix = block(first, length);
    let (ranges, without) = read_shape(shape)?;
    let inside = |(first, last): &(IpAddr, IpAddr)| prefix.contains(first) && prefix.contains(last);
    if !ranges.iter().chain(&without).all(inside) {
        return None;
    }
    let among = |spans: &Spans, address: &IpAddr| spans.iter().any(|(first, last)| first <= address && address <= last);
    let mut allocatable = prefix.clone();
    allocatable.retain(|address| (ranges.is_empty() || among(&ranges, address)) && !among(&without, address));
    if contract.reserves_edges {
        // "the IPv4 network and broadcast addresses (prefixes up to /30) and the IPv6 subnet-router anycast address
        // (prefixes up to /126)"
        let is_v4 = first.is_ipv4();
        if length <= if is_v4 { 30 } else { 126 } {
            allocatable.remove(&first);
        }
        if is_v4 && length <= 30 {
            prefix.last().map(|last| allocatable.remove(last));
        }
    }
    Some(Pool { prefix, length, allocatable })
}
