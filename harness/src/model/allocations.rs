//! Judging calls on allocations: allocate, release, release by owner, renew.

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::company::{Common, Company};
use super::coverage::AddressClass;
use super::epoch::Epoch;
use super::layout::overlap;
use super::placement::{class_of_forbidden, count_granted, forbidden_because};
use super::pool::{Expiry, Freed, Held, Moment, Pool};
use super::reason::{Reason, Reasons};
use super::{Event, Model, name_reason};
use crate::address::{Grant, Span};
use crate::contract::{Clock, ReleaseBy, ReleaseUnknown, Repeat};
use crate::operation::{Answer, Grants, Kind, Operation, Request, Requests, Response, Text, Want, Written, is_name};
use crate::property::{Property, Violation};

impl Model {
    pub(super) fn allocate(
        &mut self,
        operation: &Operation,
        response: &Response,
        owner: &Text,
        requests: &Requests<Written>,
        ttl_ms: Option<u64>,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        name_reason(&mut reasons, owner, "the owner's name is malformed");
        if requests.is_empty() {
            reasons.push(Reason::must(Kind::Invalid, Property::Classified, "it requests nothing"));
        }
        if let Some(ttl_ms) = ttl_ms {
            self.reasons_against_ttl(&mut reasons, ttl_ms);
        }
        for request in requests {
            self.reasons_against_request(&mut reasons, owner, request);
        }
        if requests.len() > 1 {
            self.reasons_against_company(&mut reasons, requests);
        }
        if response.is_err() || self.explains {
            self.reason_of_space(&mut reasons, owner, requests);
        }
        let Some(answer) = self.settle(operation, response, &reasons)? else {
            self.uncertain |= !self.contract.atomic && requests.len() > 1;
            return Ok(());
        };
        let Answer::Granted { grants, expires_ms } = answer else { return Err(self.wrong_answer(operation)) };
        self.owners.meet(owner);
        self.take(operation, owner, requests, grants, (ttl_ms, *expires_ms))
    }

    fn reasons_against_ttl(&self, reasons: &mut Reasons, ttl_ms: u64) {
        if self.contract.clock == Clock::None {
            reasons.push(Reason::may(Kind::Invalid));
            reasons.push(Reason::may(Kind::Unsupported));
        } else if ttl_ms == 0 {
            reasons.push(Reason::must(Kind::Invalid, Property::Expiring, "a lease lasts at least one millisecond"));
        }
        if self.passes_the_end_of_time(ttl_ms) {
            reasons.push(Reason::may(Kind::Invalid));
        }
    }

    /// What speaks against one request, whatever else the call asks for.
    fn reasons_against_request(&mut self, reasons: &mut Reasons, owner: &Text, request: &Request) {
        let Some(pool) = self.state.pools().get(&request.pool) else {
            self.reason_for_missing_pool(reasons, &request.pool, Property::Scoped);
            // What cannot be looked up cannot be judged: a malformed address may be seen first.
            if !matches!(request.want, Want::Any) {
                reasons.push(Reason::may(Kind::Invalid));
            }
            if self.asks_for_block(&request.want) {
                reasons.push(Reason::may(Kind::Unsupported));
            }
            return;
        };
        if !self.contract.limits.mixed_blocks {
            reasons.push(Reason::may(Kind::Unsupported));
        }
        match &request.want {
            Want::Any => {}
            Want::Block(_) if !self.contract.blocks => {
                let why = "it has no blocks";
                reasons.push(Reason::must(Kind::Unsupported, Property::Classified, why));
                reasons.push(Reason::may(Kind::Invalid));
            }
            Want::Block(length) if *length > pool.layout.family.bits() => {
                reasons.push(Reason::must(Kind::Invalid, Property::Contained, "no prefix is that long"));
            }
            Want::Block(length) if *length < pool.layout.length => reasons.push(Reason::may(Kind::Invalid)),
            Want::Block(_) => {}
            Want::Named(address) => {
                let class = self.reasons_against_named(reasons, pool, address);
                class.into_iter().for_each(|class| self.coverage.count_class(class));
            }
        }
        self.reason_of_repeat(reasons, owner, request);
    }

    /// Is this a block, by its length where there are none, or by name?
    fn asks_for_block(&self, want: &Want<Written>) -> bool {
        match want {
            Want::Any => false,
            Want::Block(_) => !self.contract.blocks,
            Want::Named(address) => matches!(address.meaning(), Some(Grant::Block(_))),
        }
    }

    /// What speaks against an address asked for by name; and where it lies.
    fn reasons_against_named(
        &self,
        reasons: &mut Reasons,
        pool: &Pool,
        address: &Written,
    ) -> SmallVec<[AddressClass; 2]> {
        let odd = matches!(address, Written::Odd(_)).then_some(AddressClass::AskedOddly);
        let mut classes: SmallVec<[AddressClass; 2]> = odd.into_iter().collect();
        let Some(grant) = address.meaning() else {
            reasons.push(Reason::must(Kind::Invalid, Property::Canonical, "the address is malformed"));
            return classes;
        };
        let (span, layout) = (grant.span(), &pool.layout);
        if let Grant::Block(_) = grant {
            reasons.push(Reason::must(Kind::Invalid, Property::Canonical, "a prefix is no address"));
            reasons.push(Reason::may(Kind::Unsupported));
        } else if grant.family() != layout.family {
            let why = "the address is not of the pool's family";
            reasons.push(Reason::must(Kind::Invalid, Property::Canonical, why));
        } else if !layout.allows(span) {
            reasons.push(Reason::must(Kind::Invalid, Property::Contained, "that address may not be handed out"));
            classes.extend(class_of_forbidden(pool, span));
        } else if let Some((_, held)) = pool.holder_of(span) {
            self.reason_of_holder(reasons, held);
        } else if self.is_held_elsewhere(pool, span) {
            reasons.push(Reason::may(Kind::Conflict));
        }
        classes
    }

    /// Where pools overlap, the protocol does not say whether an address that one of them has handed out is taken in the
    /// others as well.
    fn is_held_elsewhere(&self, pool: &Pool, span: Span) -> bool {
        !self.contract.disjoint_pools && self.others(pool).any(|other| other.overlapping(span).next().is_some())
    }

    /// What other pools have handed out of this one's prefix.
    fn held_elsewhere(&self, pool: &Pool) -> impl Iterator<Item = Span> {
        self.others(pool).flat_map(|other| other.overlapping(pool.layout.prefix)).map(|held| held.grant.span())
    }

    /// All other pools of the same family.
    fn others(&self, pool: &Pool) -> impl Iterator<Item = &Pool> {
        let is_another = |other: &&Pool| !std::ptr::eq(*other, pool) && other.layout.family == pool.layout.family;
        self.state.pools().values().filter(is_another)
    }

    fn reason_of_holder(&self, reasons: &mut Reasons, held: &Held) {
        if held.may_have_expired(self.now) {
            reasons.push(Reason::may(Kind::Conflict));
        } else if self.contract.repeat != Repeat::Same {
            reasons.push(Reason::must(Kind::Conflict, Property::Exclusive, "that address is held"));
        } else {
            // Its own holder may be given it once more; `take` sees to it that nobody else is.
            reasons.push(Reason::may(Kind::Conflict));
        }
    }

    /// What the repeat policy says, where the owner holds something in the pool already.
    fn reason_of_repeat(&self, reasons: &mut Reasons, owner: &Text, request: &Request) {
        if self.contract.repeat == Repeat::Another {
            return;
        }
        let mut own = self.state.held_in(&request.pool, owner).peekable();
        if own.peek().is_none() {
            return;
        }
        let certain = own.any(|held| !held.may_have_expired(self.now));
        if self.contract.repeat == Repeat::Conflict && certain {
            reasons.push(Reason::must(Kind::Conflict, Property::Idempotent, "its owner holds an address here already"));
        } else if self.contract.repeat == Repeat::Conflict || self.own(owner, request).is_none() {
            reasons.push(Reason::may(Kind::Conflict));
        }
    }

    /// What speaks against requests beside earlier ones of the same call.
    fn reasons_against_company(&self, reasons: &mut Reasons, requests: &[Request]) {
        if !self.contract.limits.several_requests {
            reasons.push(Reason::may(Kind::Unsupported));
        }
        let mut company = Company::new();
        for common in requests.iter().map(|request| company.meet(request)).filter(|common| *common != Common::Nothing) {
            self.reasons_against_common(reasons, common);
        }
        if !self.contract.disjoint_pools && self.have_common_addresses(requests) {
            reasons.extend([Kind::Conflict, Kind::Exhausted].map(Reason::may));
        }
    }

    /// Are there requests in different pools that overlap? Then what one of them is granted may be taken for the others.
    fn have_common_addresses(&self, requests: &[Request]) -> bool {
        let mut pools: SmallVec<[&Text; 4]> = requests.iter().map(|request| &request.pool).collect();
        pools.sort_unstable();
        pools.dedup();
        overlap(pools.iter().filter_map(|pool| Some(&self.state.pools().get(*pool)?.layout)))
    }

    fn reasons_against_common(&self, reasons: &mut Reasons, common: Common) {
        if !self.contract.limits.pool_twice {
            reasons.extend([Kind::Unsupported, Kind::Invalid].map(Reason::may));
        }
        if self.contract.repeat != Repeat::Another {
            // The protocol does not say what one call that asks twice means under these policies.
            reasons.extend([Kind::Conflict, Kind::Invalid, Kind::Exhausted].map(Reason::may));
        }
        if common == Common::Address {
            reasons.push(Reason::must(Kind::Conflict, Property::Exclusive, "it names an address twice"));
            reasons.push(Reason::may(Kind::Invalid));
        }
    }

    /// `exhausted` where what is free in some pool does not suffice. What an owner is given once more takes no room.
    fn reason_of_space(&self, reasons: &mut Reasons, owner: &Text, requests: &Requests<Written>) {
        if !self.contract.complete {
            reasons.push(Reason::may(Kind::Exhausted));
        }
        let again = |request: &Request| request.want == Want::Any && self.own(owner, request).is_some();
        let mut by_pool: SmallVec<[&Request; 4]> = requests.iter().collect();
        by_pool.sort_unstable_by_key(|request| &request.pool);
        for requests in by_pool.chunk_by(|one, other| one.pool == other.pool) {
            let Some(pool) = self.state.pools().get(&requests[0].pool) else { continue };
            let fits_beside =
                |elsewhere: &[Span]| fits(pool, requests.iter().copied().filter(|request| !again(request)), elsewhere);
            if !fits_beside(&[]) {
                reasons.push(Reason::must(Kind::Exhausted, Property::Exclusive, "there is no room for it"));
            } else if self.is_held_elsewhere(pool, pool.layout.prefix)
                && !fits_beside(&self.held_elsewhere(pool).collect::<Vec<Span>>())
            {
                reasons.push(Reason::may(Kind::Exhausted));
            }
        }
    }

    /// Checks what was granted, and records it.
    fn take(
        &mut self,
        operation: &Operation,
        owner: &Text,
        requests: &Requests<Written>,
        grants: &Grants,
        (ttl_ms, told_ms): (Option<u64>, Option<u64>),
    ) -> Result<(), Violation> {
        if grants.len() != requests.len() {
            let message = format!("`{operation}` was granted {} of {} requests", grants.len(), requests.len());
            return Err(Violation::new(Property::Atomic, message));
        }
        if self.leaves_open_what_is_same(owner, requests) {
            self.uncertain = true;
            return Ok(());
        }
        let again = self.given_again(owner, requests, grants);
        let kept = match again.first() {
            Some(Again::Same) => self.held_at(&requests[0].pool, grants[0]).map(|held| held.expires),
            _ => None,
        };
        let expires = self.expiry_of_grant(operation, ttl_ms, told_ms, kept)?;
        for (index, (request, grant)) in requests.iter().zip(grants).enumerate() {
            let wrong = |property, what: &str| {
                Violation::new(property, format!("`{operation}` was granted {grant} for {}: {what}", request.pool))
            };
            match again.get(index).unwrap_or(&Again::New) {
                Again::Same => {
                    // The lease may have kept its end or got the new one.
                    self.state.set_end(&request.pool, grant.span().first, expires);
                    continue;
                }
                Again::Another => {
                    return Err(wrong(Property::Idempotent, "its owner holds another one, which it should get again"));
                }
                Again::New => {}
            }
            self.check_grant(request, *grant).map_err(|(property, what)| wrong(property, what))?;
            if self.contract.clock == Clock::Wall {
                self.evict_expired(&request.pool, grant.span());
            }
            let held = Held { grant: *grant, owner: owner.clone(), expires };
            let recorded = self.state.insert(&request.pool, held);
            // A request for any address that takes one the same call names is found here, too.
            recorded.map_err(|held| {
                wrong(Property::Exclusive, &format!("{:?} holds {} already", held.owner, held.grant))
            })?;
        }
        self.last = Event::Changed;
        Ok(())
    }

    /// Is the same address given again in a way that one answer does not tell? A lease that may have
    /// ended by now, or one end told for what is kept and what is new.
    fn leaves_open_what_is_same(&self, owner: &Text, requests: &Requests<Written>) -> bool {
        if self.contract.repeat != Repeat::Same || self.contract.clock == Clock::None {
            return false;
        }
        match &requests[..] {
            [request] => self.state.uncertain_in(&request.pool, self.now).any(|held| held.owner == *owner),
            _ => requests.iter().any(|request| self.state.held_in(&request.pool, owner).next().is_some()),
        }
    }

    /// The first that the owner surely holds already in the pool asked, where the contract then gives the same: an address
    /// for a request for any. Whoever asks for something else than it holds may get that, or what it holds, or a refusal: the
    /// protocol does not say.
    fn own(&self, owner: &Text, request: &Request) -> Option<&Held> {
        if self.contract.repeat != Repeat::Same || request.want != Want::Any {
            return None;
        }
        let is_own = |held: &&Held| matches!(held.grant, Grant::Address(_)) && !held.may_have_expired(self.now);
        self.state.held_in(&request.pool, owner).find(is_own)
    }

    /// Is what the owner is granted held by it already, before anything of this call is recorded? Nothing
    /// where the contract does not give the same again.
    fn given_again(&self, owner: &Text, requests: &[Request], grants: &Grants) -> SmallVec<[Again; 4]> {
        if self.contract.repeat != Repeat::Same {
            return SmallVec::new();
        }
        let pairs = requests.iter().zip(grants);
        pairs.map(|(request, grant)| self.again(owner, request, grant)).collect()
    }

    fn again(&self, owner: &Text, request: &Request, grant: &Grant) -> Again {
        let is_own = |held: &&Held| held.owner == *owner && !held.may_have_expired(self.now);
        match self.held_at(&request.pool, *grant).filter(is_own) {
            Some(_) => Again::Same,
            _ if self.own(owner, request).is_some() => Again::Another,
            _ => Again::New,
        }
    }

    fn held_at(&self, pool: &Text, grant: Grant) -> Option<&Held> {
        let held = self.state.pools().get(pool)?.get(grant.span().first);
        held.filter(|held| held.grant == grant)
    }

    /// The end that the answer tells must be the one that was asked for, or that of what is given once more.
    fn expiry_of_grant(
        &mut self,
        operation: &Operation,
        ttl_ms: Option<u64>,
        told_ms: Option<u64>,
        kept: Option<Option<Expiry>>,
    ) -> Result<Option<Expiry>, Violation> {
        if self.contract.clock == Clock::None {
            let untimely = format!("`{operation}` was granted with an end, although there are no leases");
            return told_ms.map_or(Ok(None), |_| Err(Violation::new(Property::Expiring, untimely)));
        }
        if let Some(kept) = kept
            && kept.map(|expiry| expiry.told_ms) == told_ms
        {
            return Ok(kept);
        }
        match (ttl_ms, told_ms) {
            (None, None) => Ok(None),
            (Some(ttl_ms), Some(told_ms)) => self.expiry(operation, ttl_ms, told_ms).map(Some),
            (Some(_), None) => Err(Violation::new(
                Property::Expiring,
                format!("`{operation}` was granted without an end of the lease"),
            )),
            (None, Some(_)) => Err(Violation::new(
                Property::Expiring,
                format!("`{operation}` was granted with an end nobody asked for"),
            )),
        }
    }

    fn expiry(&mut self, operation: &Operation, ttl_ms: u64, told_ms: u64) -> Result<Expiry, Violation> {
        let at = self.now.plus(ttl_ms);
        if self.agrees(told_ms, at) {
            return Ok(Expiry { at, told_ms });
        }
        let right = self.epoch.unwrap_or(Epoch::of(0, Moment::default())).times_of(at);
        let message = format!("`{operation}` tells {told_ms} as the lease's end; {right} is right");
        Err(Violation::new(Property::Expiring, message))
    }

    /// Is this grant one that the request may be given, whoever else holds it?
    fn check_grant(&mut self, request: &Request, grant: Grant) -> Result<(), (Property, &'static str)> {
        let Some(pool) = self.state.pools().get(&request.pool) else {
            return Err((Property::Scoped, "there is no such pool"));
        };
        let layout = &pool.layout;
        let (family, span) = (grant.family(), grant.span());
        if family != layout.family || !layout.prefix.covers(span) {
            let elsewhere = self
                .state
                .pools()
                .values()
                .any(|other| other.layout.family == family && other.layout.prefix.covers(span));
            let property = if elsewhere { Property::Scoped } else { Property::Contained };
            return Err((property, "that is outside the pool"));
        }
        if !layout.allows(span) {
            return Err((Property::Contained, forbidden_because(pool, span)));
        }
        count_granted(&mut self.coverage, layout, grant);
        match (&request.want, grant) {
            (Want::Any, Grant::Address(_)) => Ok(()),
            (Want::Named(name), _) if name.meaning() == Some(grant) => Ok(()),
            (Want::Named(_), _) => Err((Property::Contained, "it was another address that was asked for")),
            (Want::Block(length), Grant::Block(prefix)) if prefix.prefix_len() == *length => Ok(()),
            (Want::Block(_), _) => Err((Property::Contained, "it was a block of another length that was asked for")),
            (Want::Any, Grant::Block(_)) => Err((Property::Total, "it was an address that was asked for, no block")),
        }
    }

    /// Forgets a lease on these addresses that, on real time, must have ended: they were granted.
    fn evict_expired(&mut self, pool: &Text, span: Span) {
        let held = self.state.pools().get(pool).into_iter().flat_map(|pool| pool.overlapping(span));
        let ended = held.filter(|held| held.may_have_expired(self.now));
        let ended: SmallVec<[u128; 4]> = ended.map(|held| held.grant.span().first).collect();
        ended.into_iter().for_each(|first| self.state.remove(pool, first, Freed::Expired));
    }

    pub(super) fn release(
        &mut self,
        operation: &Operation,
        response: &Response,
        pool: &Text,
        address: &Written,
        owner: Option<&Text>,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        let lenient = self.contract.release_unknown == ReleaseUnknown::Ok;
        match owner {
            Some(owner) => name_reason(&mut reasons, owner, "the owner's name is malformed"),
            None if self.contract.release_by == ReleaseBy::Owner => {
                reasons.push(Reason::must(Kind::Invalid, Property::Owned, "it does not say who releases"));
            }
            None => {}
        }
        let held = self.find_held(&mut reasons, pool, address, Property::Owned, lenient);
        // The protocol does not say whether 10.0.0.5/32 names the address 10.0.0.5. Where anything may
        // be released, `done` may mean that the address was released, or that no such block is held.
        let is_vague = lenient && held.as_ref().is_some_and(|held| Some(held.grant) != address.meaning());
        // So it may where the lease may have ended by now.
        let may_be_nobodys = lenient && held.as_ref().is_some_and(|held| held.may_have_expired(self.now));
        if let (Some(held), Some(owner)) = (&held, owner)
            && held.owner != *owner
            && self.contract.release_by == ReleaseBy::Owner
        {
            reasons.push(match is_vague || may_be_nobodys {
                false => Reason::must(Kind::NotOwner, Property::Owned, "somebody else holds it"),
                true => Reason::may(Kind::NotOwner),
            });
        }
        if !self.contract.limits.partial_release {
            reasons.push(Reason::may(Kind::Unsupported));
        }
        if self.settle(operation, response, &reasons)?.is_none() {
            return Ok(());
        }
        self.expect_done(operation, response)?;
        self.uncertain |= is_vague;
        if let Some(held) = held {
            self.state.remove(pool, held.grant.span().first, Freed::Released);
        }
        self.last = Event::Changed;
        Ok(())
    }

    /// The allocation that a release or renewal means, with the reasons against there being none.
    /// `lenient`: what nobody holds may be released.
    fn find_held(
        &self,
        reasons: &mut Reasons,
        name: &Text,
        address: &Written,
        property: Property,
        lenient: bool,
    ) -> Option<Held> {
        let mut refuse = |kind, property, why| {
            reasons.push(if lenient { Reason::may(kind) } else { Reason::must(kind, property, why) });
        };
        let Some(pool) = self.state.pools().get(name) else {
            refuse(Kind::NotFound, Property::Scoped, "there is no such pool");
            if !is_name(name) || !matches!(address.meaning(), Some(Grant::Address(_))) {
                reasons.push(Reason::may(Kind::Invalid));
            }
            return None;
        };
        let Some(grant) = address.meaning() else {
            refuse(Kind::Invalid, Property::Canonical, "the address is malformed");
            return None;
        };
        let (span, layout) = (grant.span(), &pool.layout);
        let held = pool.get(span.first).filter(|held| held.grant.span() == span && layout.family == grant.family());
        let Some(held) = held else {
            // Where releasing what nobody holds is fine, it is not to be refused; but the protocol
            // lets an expired or a reserved address be `not_found` all the same.
            if !lenient || !layout.allows(span) || self.contract.clock != Clock::None {
                refuse(Kind::NotFound, property, "nobody holds it");
            }
            let outside = layout.family != grant.family() || !layout.prefix.covers(span);
            if outside || matches!(grant, Grant::Block(_)) {
                reasons.push(Reason::may(Kind::Invalid));
            }
            return None;
        };
        if held.may_have_expired(self.now) {
            reasons.push(Reason::may(Kind::NotFound));
        }
        if held.grant != grant {
            reasons.extend([Kind::NotFound, Kind::Invalid].map(Reason::may));
        }
        Some(held.clone())
    }

    pub(super) fn release_owner(
        &mut self,
        operation: &Operation,
        response: &Response,
        owner: &Text,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        name_reason(&mut reasons, owner, "the owner's name is malformed");
        let Some(answer) = self.settle(operation, response, &reasons)? else { return Ok(()) };
        let Answer::Released(released) = answer else { return Err(self.wrong_answer(operation)) };
        let told: FxHashSet<(&str, Grant)> = released.iter().map(|(pool, grant)| (&**pool, *grant)).collect();
        let gone = self.state.held_by(owner);
        gone.iter().for_each(|(name, held)| self.state.remove(name, held.grant.span().first, Freed::Released));
        let owed = gone.iter().filter(|(_, held)| !held.may_have_expired(self.now)).count();
        let known = gone.iter().filter(|(name, held)| told.contains(&(&**name, held.grant))).count();
        let missing = owed.saturating_sub(known);
        let extra = released.len().saturating_sub(known);
        if missing == 0 && extra == 0 {
            self.last = Event::Changed;
            return Ok(());
        }
        let shown: Vec<String> = released.iter().map(|(pool, grant)| format!("{pool} {grant}")).collect();
        let message = format!(
            "`{operation}` says it released [{}]: {missing} that the owner holds are missing, {extra} are not its own",
            shown.join(", ")
        );
        Err(Violation::new(if extra > 0 { Property::Owned } else { Property::Released }, message))
    }

    pub(super) fn renew(
        &mut self,
        operation: &Operation,
        response: &Response,
        (pool, address, owner): (&Text, &Written, &Text),
        ttl_ms: u64,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        name_reason(&mut reasons, owner, "the owner's name is malformed");
        self.reasons_against_ttl(&mut reasons, ttl_ms);
        let property = if self.last == Event::Advanced { Property::Expiring } else { Property::Owned };
        let held = self.find_held(&mut reasons, pool, address, property, false);
        if let Some(held) = &held {
            if held.owner != *owner {
                reasons.push(Reason::must(Kind::NotOwner, Property::Owned, "somebody else holds it"));
            }
            if held.expires.is_none() {
                reasons.push(Reason::may(Kind::Invalid));
            }
        }
        let Some(answer) = self.settle(operation, response, &reasons)? else { return Ok(()) };
        let Answer::Renewed { expires_ms } = answer else { return Err(self.wrong_answer(operation)) };
        let expiry = self.expiry(operation, ttl_ms, *expires_ms)?;
        let first = held.map(|held| held.grant.span().first);
        if let Some(first) = first {
            self.state.set_end(pool, first, Some(expiry));
        }
        self.last = Event::Changed;
        Ok(())
    }
}

/// Is what an owner is granted something that it held before?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    New,
    Same,
    /// It is new, although the owner holds an address there that it should get again.
    Another,
}

/// Can the free space of a pool serve these requests, all of them its own, at once, if what is held elsewhere is taken here, too?
fn fits<'r>(pool: &Pool, requests: impl Iterator<Item = &'r Request>, elsewhere: &[Span]) -> bool {
    let mut any = 0;
    let mut blocks: SmallVec<[u8; 4]> = SmallVec::new();
    let mut named: SmallVec<[Span; 4]> = SmallVec::new();
    for request in requests {
        match &request.want {
            Want::Any => any += 1,
            Want::Block(length) => match pool.layout.family.bits().checked_sub(*length) {
                Some(host_bits) => blocks.push(host_bits),
                None => return false,
            },
            // One that is held or forbidden has its own reason; here it takes no room.
            Want::Named(address) => named.extend(
                address
                    .meaning()
                    .map(Grant::span)
                    .filter(|span| pool.layout.allows(*span) && pool.holder_of(*span).is_none()),
            ),
        }
    }
    // Naming a free address alone never exhausts a pool.
    if any == 0 && blocks.is_empty() {
        return true;
    }
    match elsewhere {
        [] => pool.fits(any, &blocks, &named),
        _ => pool.fits_beside(any, &blocks, &[&named, elsewhere].concat()),
    }
}
