//! Pools: mostly tiny, so that they fill; some huge, so that nobody walks them; at every edge of
//! both address spaces.

use fastrand::Rng;

use super::{chance, pick};
use crate::address::{Family, Grant, MAPPED, Span, parse_address};
use crate::contract::Contract;
use crate::operation::{PoolShape, Text};
use crate::scenario::{Spelling, spell, text};

/// A pool as drawn: what the steps need to know about it.
#[derive(Clone, Debug)]
pub(super) struct DrawnPool {
    pub(super) name: Text,
    pub(super) family: Family,
    pub(super) prefix: Span,
    pub(super) prefix_text: Text,
    pub(super) shape: PoolShape,
}

/// Where tiny pools lie, as first numbers: ordinary, at both ends of the space, neighbours, and
/// where IPv6 looks like IPv4.
const PLACES_V4: [u128; 6] = [0x0a00_0000, 0x0a00_0100, 0, 0xffff_ff00, 0xc0a8_0000, 0x7fff_ff00];
const PLACES_V6: [u128; 6] =
    [0xfd00 << 112, 0x2001_0db8 << 96, 0, u128::MAX - 0xff, 0xffff_0a00_0000, (0xfd00 << 112) | (0xffff_ffff << 64)];

/// Huge prefixes.
const HUGE_V4: [(u128, u8); 4] = [(0x0a00_0000, 8), (0x0a00_0000, 12), (0, 0), (0xac10_0000, 16)];
const HUGE_V6: [(u128, u8); 4] = [(0xfd00 << 112, 64), (0x2001_0db8 << 96, 32), (0, 0), (0xfd00 << 112, 96)];

/// One to three pools with the first of these names; disjoint where the contract wants that.
pub(super) fn draw(contract: &Contract, names: Vec<Text>, rng: &mut Rng) -> Vec<DrawnPool> {
    let count = *pick(&[1, 1, 1, 2, 2, 3], rng);
    let mut pools: Vec<DrawnPool> = Vec::with_capacity(count);
    for name in names.into_iter().take(count) {
        let pool = one(contract, name, rng);
        let clashes = |other: &DrawnPool| other.family == pool.family && other.prefix.overlaps(pool.prefix);
        // Overlaps are worth a try now and then, whatever the contract says of them.
        if !pools.iter().any(clashes) || chance(2, rng) {
            pools.push(pool);
        }
    }
    pools
}

fn one(contract: &Contract, name: Text, rng: &mut Rng) -> DrawnPool {
    let families: Vec<Family> = Family::ALL.into_iter().filter(|family| contract.families.contains(*family)).collect();
    let family = *pick(&families, rng);
    let (mut first, length) = prefix(family, contract.limits.longest(family), rng);
    if family == Family::V6 && MAPPED.contains(first) && !contract.limits.mapped_pools {
        first = PLACES_V6[0];
    }
    let host_bits = family.bits() - length;
    let last = if host_bits >= 128 { u128::MAX } else { first | ((1 << host_bits) - 1) };
    let prefix = Span { first, last };
    let mut prefix_text = text(&format!("{}/{length}", family.address(first)));
    if is_spelled_oddly(family, rng) {
        prefix_text = in_other_spelling(&prefix_text, rng);
    }
    let shape = shape(contract, family, prefix, rng);
    DrawnPool { name, family, prefix, prefix_text, shape }
}

/// Number and length of a prefix no longer than `longest`.
fn prefix(family: Family, longest: u8, rng: &mut Rng) -> (u128, u8) {
    let (places, huge) = match family {
        Family::V4 => (PLACES_V4, HUGE_V4),
        Family::V6 => (PLACES_V6, HUGE_V6),
    };
    if chance(2, rng) {
        return *pick(&huge, rng);
    }
    // 1, 2, 4, 8, 8, 16 addresses; at times some hundred, or a thousand.
    let host_bits = if chance(1, rng) { 5 + rng.u8(..6) } else { *pick(&[0, 1, 2, 3, 3, 4], rng) };
    let length = (family.bits() - host_bits).min(longest);
    let size = 1u128 << (family.bits() - length);
    let place = *pick(&places, rng);
    let steps = if size >= 256 { 0 } else { u128::from(rng.u8(..)) % (256 / size) };
    // Neighbouring prefixes are the interesting ones, so a few first slots are preferred.
    let slot = if chance(12, rng) { steps.min(u128::from(rng.u8(..3))) } else { steps };
    let first = (place & !(size - 1)) + slot * size;
    (first, length)
}

/// Ranges, gateway and exclusions within a prefix. Huge prefixes often get a tiny range, so that
/// they fill too.
pub(super) fn shape(contract: &Contract, family: Family, prefix: Span, rng: &mut Rng) -> PoolShape {
    let address = |number: u128| text(&family.address(number).to_string());
    let is_huge = prefix.last - prefix.first > 512;
    let ranges = match rng.u8(..8) {
        0 | 1 => 1,
        2 => *pick(&[2, 2, 3, 4], rng),
        _ if is_huge && rng.bool() => 1,
        _ => 0,
    };
    let mut drawn: Vec<Span> = (0..ranges).map(|_| span_within(prefix, rng)).collect();
    drawn.sort_unstable();
    if !contract.limits.overlapping_ranges {
        drawn.dedup_by(|later, earlier| later.overlaps(*earlier));
    }
    let shown = |span: Span| (address(span.first), address(span.last));
    let gateway = (contract.limits.gateway_required || chance(6, rng)).then(|| address(place_within(prefix, rng)));
    let exclusions = if contract.limits.exclusions { *pick(&[0, 0, 0, 1, 2, 0, 0, 0, 1, 3], rng) } else { 0 };
    let exclude = (0..exclusions).map(|_| {
        let span = span_within(prefix, rng);
        match rng.u8(..3) {
            0 if span.first != span.last => {
                text(&format!("{}-{}", family.address(span.first), family.address(span.last)))
            }
            1 => {
                text(&format!("{}/{}", family.address(span.first & !1), family.bits() - u8::from(span.first & 1 == 0)))
            }
            _ => address(span.first),
        }
    });
    let exclude = exclude.collect();
    let mut shape = PoolShape { ranges: drawn.into_iter().map(shown).collect(), gateway, exclude };
    if is_spelled_oddly(family, rng) {
        let PoolShape { ranges, gateway, exclude } = &mut shape;
        let ends = ranges.iter_mut().flat_map(|(first, last)| [first, last]);
        ends.chain(gateway).chain(exclude).for_each(|text| *text = in_other_spelling(text, rng));
    }
    shape
}

/// Only addresses of IPv6 have other spellings.
fn is_spelled_oddly(family: Family, rng: &mut Rng) -> bool {
    family == Family::V6 && chance(1, rng)
}

/// An address, prefix or range with its first address in another spelling.
fn in_other_spelling(usual: &Text, rng: &mut Rng) -> Text {
    let (first, rest) = usual.split_at(usual.find(['/', '-']).unwrap_or(usual.len()));
    let Some(address) = parse_address(first) else { return usual.clone() };
    text(&format!("{}{rest}", spell(Grant::Address(address), *pick(&Spelling::SAME, rng))))
}

/// Where a byte, a group or a word of an address ends: so many bits from its end.
const BORDERS: [u32; 5] = [8, 16, 24, 32, 64];

/// A number in the prefix, near one of its ends or near a border of bytes, groups or words.
pub(super) fn place_within(prefix: Span, rng: &mut Rng) -> u128 {
    let size = prefix.last - prefix.first;
    if chance(2, rng)
        && let Some(border) = border_within(prefix, rng)
    {
        return border.saturating_add(u128::from(rng.u8(..6))).saturating_sub(3).clamp(prefix.first, prefix.last);
    }
    let offset = u128::from(rng.u8(..8)).min(size);
    if rng.bool() { prefix.first + offset } else { prefix.last - offset }
}

/// The first number after a border within the prefix: of the first one there is, or of one farther on.
fn border_within(prefix: Span, rng: &mut Rng) -> Option<u128> {
    let period = 1u128 << pick(&BORDERS, rng);
    let count = (prefix.last / period).checked_sub(prefix.first / period).filter(|count| *count > 0)?;
    let number = if rng.bool() { 1 } else { 1 + rng.u128(..count) };
    Some((prefix.first / period + number) * period)
}

/// A short span in the prefix, near one of its ends or a border.
fn span_within(prefix: Span, rng: &mut Rng) -> Span {
    let first = place_within(prefix, rng);
    Span { first, last: first.saturating_add(u128::from(rng.u8(..6))).min(prefix.last) }
}
