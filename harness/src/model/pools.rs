//! Judging calls on pools: create, update, delete.

use super::layout::Layout;
use super::pool::{Held, Pool};
use super::reason::{Reason, Reasons};
use super::{Event, Model, name_reason};
use crate::address::{Family, MAPPED, Span, parse_prefix};
use crate::contract::Limits;
use crate::operation::{Kind, Operation, PoolShape, Response, Text};
use crate::property::{Property, Violation};

impl Model {
    pub(super) fn create_pool(
        &mut self,
        operation: &Operation,
        response: &Response,
        name: &Text,
        prefix: &Text,
        shape: &PoolShape,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        name_reason(&mut reasons, name, "the pool's name is malformed");
        if self.state.pools().contains_key(name) {
            reasons.push(Reason::must(Kind::Conflict, Property::Idempotent, "a pool of that name exists"));
        }
        let layout = Layout::read(prefix, shape, self.contract.reserves_edges);
        match &layout {
            Err(why) => {
                reasons.push(Reason::must(Kind::Invalid, Property::Contained, why));
                self.reason_against_overlapping_prefix(&mut reasons, prefix);
            }
            Ok(layout) => {
                self.reasons_against_overlap(&mut reasons, name, layout);
                self.reasons_against_layout(&mut reasons, layout);
            }
        }
        self.reasons_against_shape(&mut reasons, shape);
        if self.settle(operation, response, &reasons)?.is_none() {
            return Ok(());
        }
        self.expect_done(operation, response)?;
        if let Ok(layout) = layout {
            self.state.set_pool(name, Some(Pool::new(layout)));
        }
        self.last = Event::Reshaped;
        Ok(())
    }

    pub(super) fn update_pool(
        &mut self,
        operation: &Operation,
        response: &Response,
        name: &Text,
        shape: &PoolShape,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        let reserves_edges = self.contract.reserves_edges;
        let layout = self.state.pools().get(name).map(|pool| pool.layout.reshaped(shape, reserves_edges));
        self.reason_for_missing_pool(&mut reasons, name, Property::Reconfigurable);
        match &layout {
            None => reasons.push(Reason::may(Kind::Invalid)),
            Some(Err(why)) => reasons.push(Reason::must(Kind::Invalid, Property::Contained, why)),
            Some(Ok(layout)) => {
                self.reasons_against_overlap(&mut reasons, name, layout);
                self.reasons_against_layout(&mut reasons, layout);
                let orphans = self.state.pools().get(name).into_iter().flat_map(|pool| pool.orphans(layout));
                self.reason_against_orphans(&mut reasons, orphans);
            }
        }
        self.reasons_against_shape(&mut reasons, shape);
        if self.settle(operation, response, &reasons)?.is_none() {
            return Ok(());
        }
        self.expect_done(operation, response)?;
        if let Some(Ok(layout)) = layout {
            // Had the orphans not ended, the update would have been refused.
            self.state.reshape(name, layout);
        }
        self.last = Event::Reshaped;
        Ok(())
    }

    pub(super) fn delete_pool(
        &mut self,
        operation: &Operation,
        response: &Response,
        name: &Text,
    ) -> Result<(), Violation> {
        let mut reasons = Reasons::new();
        self.reason_for_missing_pool(&mut reasons, name, Property::Reconfigurable);
        let orphans = self.state.pools().get(name).into_iter().flat_map(Pool::iter);
        self.reason_against_orphans(&mut reasons, orphans);
        if self.settle(operation, response, &reasons)?.is_none() {
            return Ok(());
        }
        self.expect_done(operation, response)?;
        self.state.set_pool(name, None);
        self.last = Event::Reshaped;
        Ok(())
    }

    /// `not_found` for a pool that does not exist; a malformed name may be `invalid` as well.
    pub(super) fn reason_for_missing_pool(&self, reasons: &mut Reasons, name: &Text, property: Property) {
        if self.state.pools().contains_key(name) {
            return;
        }
        reasons.push(Reason::must(Kind::NotFound, property, "there is no such pool"));
        if !crate::operation::is_name(name) {
            reasons.push(Reason::may(Kind::Invalid));
        }
    }

    /// `in_use` where an allocation would be orphaned; on real time, one that may have expired may
    /// count or not.
    fn reason_against_orphans<'a>(&self, reasons: &mut Reasons, orphans: impl Iterator<Item = &'a Held>) {
        let mut orphans = orphans.peekable();
        if orphans.peek().is_none() {
            return;
        }
        if orphans.all(|held| held.may_have_expired(self.now)) {
            reasons.push(Reason::may(Kind::InUse));
        } else {
            reasons.push(Reason::must(Kind::InUse, Property::Reconfigurable, "a live allocation would be orphaned"));
        }
    }

    /// `conflict` with another pool where pools are disjoint. Prefixes that overlap without a
    /// common allocatable address may be taken either way.
    fn reasons_against_overlap(&self, reasons: &mut Reasons, name: &Text, layout: &Layout) {
        if !self.contract.disjoint_pools {
            return;
        }
        let others = self.state.pools().iter().filter(|(other, _)| *other != name);
        for (_, other) in others.filter(|(_, pool)| pool.layout.family == layout.family) {
            if other.layout.shares_addresses_with(layout) {
                reasons.push(Reason::must(Kind::Conflict, Property::Exclusive, "it overlaps another pool"));
            } else if other.layout.prefix.overlaps(layout.prefix) {
                reasons.push(Reason::may(Kind::Conflict));
            }
        }
    }

    /// `conflict` is right as well where the shape is malformed but the prefix overlaps another pool's.
    fn reason_against_overlapping_prefix(&self, reasons: &mut Reasons, prefix: &str) {
        let Some(prefix) = parse_prefix(prefix) else { return };
        let (family, span) = (Family::of(prefix.network()), Span::of_prefix(prefix));
        let overlaps = |pool: &Pool| pool.layout.family == family && pool.layout.prefix.overlaps(span);
        if self.contract.disjoint_pools && self.state.pools().values().any(overlaps) {
            reasons.push(Reason::may(Kind::Conflict));
        }
    }

    /// What a system may decline to serve.
    fn reasons_against_layout(&self, reasons: &mut Reasons, layout: &Layout) {
        let limits = &self.contract.limits;
        let declined = layout.length > limits.longest(layout.family)
            || layout.length < limits.shortest(layout.family)
            || (!limits.overlapping_ranges && layout.ranges_overlap)
            || (!limits.mapped_pools && layout.family == Family::V6 && MAPPED.overlaps(layout.prefix))
            || (!limits.special_addresses && layout.has_special_addresses())
            || !self.contract.families.contains(layout.family);
        if declined {
            reasons.push(Reason::may(Kind::Unsupported));
        }
        if declined || layout.allocatable.is_empty() {
            reasons.push(Reason::may(Kind::Invalid));
        }
    }

    /// What an adapter may decline to pass on, before anybody looks whether it is well formed.
    fn reasons_against_shape(&self, reasons: &mut Reasons, shape: &PoolShape) {
        let Limits { gateway_required, exclusions, .. } = self.contract.limits;
        if (gateway_required && shape.gateway.is_none()) || (!exclusions && !shape.exclude.is_empty()) {
            reasons.push(Reason::may(Kind::Unsupported));
        }
    }
}
