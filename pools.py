"""Pools as sets of spans: what may be handed out, what is free, and who holds what.

A span is (first, last), both included. A pool costs what its ranges, exclusions and allocations cost, never what its
prefix would: `::/0` is as cheap as a /29.
"""
import random
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from protocol import BITS, spell

RANDOM = random.SystemRandom()


def union(spans):
    joined = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def difference(spans, holes):
    """What remains of `spans` without `holes`; both ascend and are disjoint."""
    left, holes, i = [], list(holes), 0
    for first, last in spans:
        while i < len(holes) and holes[i][1] < first:
            i += 1
        j = i
        while j < len(holes) and holes[j][0] <= last:
            if first < holes[j][0]:
                left.append((first, holes[j][0] - 1))
            first, j = holes[j][1] + 1, j + 1
        if first <= last:
            left.append((first, last))
    return left


class Spans:
    """A set of numbers as ascending spans that do not touch, found by bisection."""

    def __init__(self, spans):
        spans = union(spans)
        self.firsts = [first for first, _ in spans]
        self.lasts = [last for _, last in spans]
        self.size = sum(last - first + 1 for first, last in self)

    def __iter__(self):
        return zip(self.firsts, self.lasts)

    def covers(self, first, last):
        i = bisect_right(self.firsts, first) - 1
        return i >= 0 and last <= self.lasts[i]

    def take(self, first, last):
        i, j = bisect_left(self.lasts, first), bisect_right(self.firsts, last)
        rest = []
        if i < j:
            low, high = self.firsts[i], self.lasts[j - 1]
            rest = [span for span in ((low, first - 1), (last + 1, high)) if span[0] <= span[1]]
        self.replace(i, j, rest)

    def give(self, first, last):
        """Adds a span of which the set has nothing, joining it to its neighbours."""
        i = j = bisect_right(self.firsts, first)
        if i > 0 and self.lasts[i - 1] == first - 1:
            i, first = i - 1, self.firsts[i - 1]
        if j < len(self.firsts) and self.firsts[j] == last + 1:
            last, j = self.lasts[j], j + 1
        self.replace(i, j, [(first, last)])

    def replace(self, i, j, spans):
        self.size += sum(last - first + 1 for first, last in spans)
        self.size -= sum(last - first + 1 for first, last in zip(self.firsts[i:j], self.lasts[i:j]))
        self.firsts[i:j] = [first for first, _ in spans]
        self.lasts[i:j] = [last for _, last in spans]

    def slots(self, size):
        """Where aligned blocks of `size` fit: (first address of the first, how many follow each other)."""
        for first, last in self:
            start = -(-first // size) * size
            if start + size - 1 <= last:
                yield start, (last + 1 - start) // size


class Settings(NamedTuple):
    """What `pool.create` and `pool.update` say beyond the prefix; spans and numbers inside the prefix."""
    ranges: tuple = ()
    gateway: int | None = None
    exclusions: tuple = ()


class Allocation:
    """An address or block held. `length` is None for a single address, `expires` None without an end. `watch` tells
    the one entry in the allocator's heap that stands for this lease from outdated ones."""
    __slots__ = ("owner", "first", "length", "expires", "watch")

    def __init__(self, owner, first, length=None, expires=None):
        self.owner, self.first, self.length, self.expires = owner, first, length, expires
        self.watch = None

    @property
    def key(self):
        return self.first, self.length


class Pool:
    def __init__(self, name, prefix, settings, reserves_edges=True):
        self.name, self.prefix, self.reserves_edges = name, prefix, reserves_edges
        self.held = {}  # key → allocation
        self.by_owner = {}  # owner → {key: allocation}
        self.allocated = 0  # addresses held, those of blocks included
        self.configure(settings)

    # What may be handed out

    def configure(self, settings):
        self.settings = settings
        self.allocatable = self.plan(settings)
        self.free = Spans(difference(self.allocatable, union(self.span(held) for held in self.held.values())))

    def plan(self, settings):
        inside = union(settings.ranges or [(self.prefix.first, self.prefix.last)])
        return Spans(difference(inside, union(self.forbidden(settings))))

    def forbidden(self, settings):
        gateway = [] if settings.gateway is None else [(settings.gateway, settings.gateway)]
        return [*settings.exclusions, *gateway, *self.edges()]

    def edges(self):
        """IPv4 network and broadcast address, IPv6 subnet-router anycast address; point-to-point prefixes have none."""
        if not self.reserves_edges or BITS[self.prefix.version] - self.prefix.length < 2:
            return []
        first, last = self.prefix.first, self.prefix.last
        return [(first, first), (last, last)] if self.prefix.version == 4 else [(first, first)]

    def size(self, length):
        return 1 if length is None else 1 << BITS[self.prefix.version] - length

    def span(self, allocation):
        return allocation.first, allocation.first + self.size(allocation.length) - 1

    def spell(self, allocation):
        return spell(self.prefix.version, allocation.first, allocation.length)

    # What is free

    def lowest(self, size):
        return next((start for start, _ in self.free.slots(size)), None)

    def drawn(self, size, draw=RANDOM.randrange):
        """Any free slot, each equally likely."""
        allocatable, free = self.allocatable, self.free
        if size == 1 and 0 < allocatable.size <= free.size * 2:  # guess: the cost then does not grow with what is held
            while not free.covers(guess := nth(allocatable.slots(1), draw(allocatable.size)), guess):
                pass
            return guess
        slots = list(free.slots(size))
        return nth(slots, draw(sum(count for _, count in slots)), size) if slots else None

    # Who holds

    def of(self, owner):
        return self.by_owner.get(owner, {})

    def hold(self, allocation):
        self.free.take(*self.span(allocation))
        self.allocated += self.size(allocation.length)
        self.held[allocation.key] = allocation
        self.by_owner.setdefault(allocation.owner, {})[allocation.key] = allocation

    def drop(self, allocation):
        self.free.give(*self.span(allocation))
        self.allocated -= self.size(allocation.length)
        del self.held[allocation.key]
        mine = self.by_owner[allocation.owner]
        del mine[allocation.key]
        if not mine:
            del self.by_owner[allocation.owner]


def nth(slots, n, size=1):
    for start, count in slots:
        if n < count:
            return start + n * size
        n -= count
