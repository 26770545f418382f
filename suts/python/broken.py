#!/usr/bin/env python3
"""SUTs that each break exactly one rule of the protocol, to prove that a harness notices.

    python3 broken.py --list                                     the table, one JSON object a line
    python3 broken.py --break hands-out-gateway --durable        a correct allocator but for that
    python3 broken.py --break silent --after 10                  correct for ten answers, then silent

A rule breakage is a subclass of the correct allocator with a small override. A process breakage is a subclass of the
correct server that misbehaves after some answers; the one to `initialize` counts. The class's docstring says which
rule is broken, its decorator which property should catch it and which options it needs.
"""
import fcntl
import ipaddress
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from typing import NamedTuple

from allocator import Allocator, contract, options, store_for
from pools import Allocation, Pool, Settings, Spans, nth
from protocol import VERSION, Refusal, Server, read_name, read_whole


class Breakage(NamedTuple):
    name: str
    kind: str  # rule, or process
    property: str  # that should catch it
    switches: tuple  # options without which the rule does not apply
    needs: str | None  # what a scenario must have beyond plain calls
    made: type

    def as_object(self):
        return {"name": self.name, "kind": self.kind, "property": self.property, "switches": list(self.switches),
                "needs": self.needs, "note": " ".join(self.made.__doc__.split())}


TABLE = {}


def breaks(property, *switches, needs=None):
    """Enters a class into the table under its name with dashes."""
    def enter(made):
        name = made.__name__.replace("_", "-")
        kind = "process" if issubclass(made, Server) else "rule"
        TABLE[name] = Breakage(name, kind, property, switches, needs, made)
        return made
    return enter


# Rules about which address is handed out


class LeakyPool(Pool):
    """Treats some spans as free that are not allocatable; usage is right all the same."""

    def configure(self, settings):
        super().configure(settings)
        held = Spans(self.span(allocation) for allocation in self.held.values())
        for first, last in self.leaks(settings):
            if not self.allocatable.covers(first, first) and not held.covers(first, first):
                self.free.give(first, last)


@breaks("exclusive")
class double_allocation(Allocator):
    """After a release the next request for any address gets the one above, which somebody holds."""
    above = None

    def release(self, params):
        result = super().release(params)
        self.above = self.read_key(params["address"], self.find_pool(params))[0] + 1, None
        return result

    def pick(self, pool, size):
        victim = pool.held.get(self.above)
        if size > 1 or victim is None:
            return super().pick(pool, size)
        self.drop(pool, victim)
        return victim.first


@breaks("contained")
class hands_out_gateway(Allocator):
    """The gateway is not allocatable, yet it is handed out."""
    class Pool(LeakyPool):
        def leaks(self, settings):
            return [] if settings.gateway is None else [(settings.gateway, settings.gateway)]


@breaks("contained")
class hands_out_exclusion(Allocator):
    """Exclusions are not allocatable, yet the first address of the last one is handed out."""
    class Pool(LeakyPool):
        def leaks(self, settings):
            return [(first, first) for first, _ in settings.exclusions[-1:]]


@breaks("contained")
class hands_out_network(Allocator):
    """The IPv4 network address is an edge, yet it is handed out."""
    class Pool(LeakyPool):
        def leaks(self, settings):
            return self.edges()[:1] if self.prefix.version == 4 and not settings.ranges else []


@breaks("contained")
class hands_out_broadcast(Allocator):
    """The IPv4 broadcast address is an edge, yet it is handed out."""
    class Pool(LeakyPool):
        def leaks(self, settings):
            return self.edges()[1:] if not settings.ranges else []


@breaks("contained")
class hands_out_anycast(Allocator):
    """The IPv6 subnet-router anycast address is an edge, yet it is handed out."""
    class Pool(LeakyPool):
        def leaks(self, settings):
            return self.edges() if self.prefix.version == 6 and not settings.ranges else []


@breaks("contained")
class hands_out_past_range(Allocator):
    """A range includes its last address and nothing after it; here it has one more."""
    class Pool(LeakyPool):
        def leaks(self, settings):
            past = max((last for _, last in settings.ranges), default=self.prefix.last) + 1
            return [(past, past)] if past < self.prefix.last else []


class TakesName(Allocator):
    """Accepts by name an address that is not allocatable."""

    def choose(self, pool, number, length):
        if number is not None and self.takes(pool, number) and not pool.allocatable.covers(number, number):
            if (number, None) not in pool.held and not pool.free.covers(number, number):
                pool.free.give(number, number)
                return number
        return super().choose(pool, number, length)


@breaks("contained")
class names_gateway(TakesName):
    """A request that names the gateway is `invalid`; here it is granted."""
    def takes(self, pool, number):
        return number == pool.settings.gateway


@breaks("contained")
class names_outside_ranges(TakesName):
    """A request that names an address of the prefix outside the ranges is `invalid`; here it is granted."""
    def takes(self, pool, number):
        ranges = pool.settings.ranges
        inside = pool.prefix.first < number < pool.prefix.last
        return inside and bool(ranges) and not any(first <= number <= last for first, last in ranges)


@breaks("complete")
class exhausted_early(Allocator):
    """`exhausted` is answered only when nothing is free; here one address earlier."""
    def pick(self, pool, size):
        return super().pick(pool, size) if pool.free.size > 1 else None


@breaks("complete")
class any_takes_named(Allocator):
    """A request for any address never takes one that the same call names; here it may, and the call is refused."""
    def order(self, wanted):
        return range(len(wanted))


@breaks("released")
class freed_is_lost(Allocator):
    """What is released can be had again; here never, when it was the highest address held."""
    def release(self, params):
        pool, held = self.find(params, "ok", anyone=True)
        result = super().release(params)
        if held and all(other.first < held.first for other in pool.held.values()):
            span = pool.span(held)
            self.change(lambda: pool.free.take(*span), lambda: pool.free.give(*span))
        return result


@breaks("unpredictable", "--unpredictable", needs="statistics")
class seeded(Allocator):
    """Where random choice is promised, instances differ; here all draw the same numbers."""
    def __init__(self, *arguments):
        self.draw = random.Random(7).randrange
        super().__init__(*arguments)

    def pick(self, pool, size):
        return pool.drawn(size, self.draw)


@breaks("unpredictable", "--unpredictable", needs="statistics")
class lowest_first(Allocator):
    """Where random choice is promised, the lowest free address is handed out."""
    def pick(self, pool, size):
        return pool.lowest(size)


@breaks("unpredictable", "--unpredictable", needs="statistics")
class few_lowest(Allocator):
    """Where random choice is promised, it falls on one of the eight lowest free addresses."""
    def pick(self, pool, size):
        slots = list(pool.free.slots(size))
        total = sum(count for _, count in slots)
        return nth(slots, random.randrange(min(total, 8)), size) if slots else None


@breaks("unpredictable", "--unpredictable", needs="statistics")
class random_start(Allocator):
    """Where random choice is promised, only the first of a series is random; the others follow it."""
    def __init__(self, *arguments):
        self.next = None
        super().__init__(*arguments)

    def draw(self, most):
        self.next = random.randrange(most) if self.next is None else (self.next + 1) % most
        return self.next

    def pick(self, pool, size):
        return pool.drawn(size, self.draw)


@breaks("bounded", needs="timing")
class walks_the_prefix(Allocator):
    """The time of a call does not depend on the prefix length; here creating a pool visits its addresses."""
    def new_pool(self, name, prefix, settings):
        for _ in range(min(prefix.last - prefix.first, 50_000_000)):
            pass
        return super().new_pool(name, prefix, settings)


# Rules about owners


@breaks("owned")
class release_ignores_owner(Allocator):
    """Only the owner may release; here anyone may, though the contract says `owner`."""
    def release(self, params):
        pool, held = self.find(params, self.contract["release_unknown"], anyone=True)
        return super().release({**params, "owner": held.owner} if held else params)


@breaks("owned", "--clock", "virtual")
class renew_ignores_owner(Allocator):
    """Only the owner may renew; here anyone may."""
    def renew(self, params):
        self.owner(params)
        pool, held = self.find(params, anyone=True)
        return super().renew({**params, "owner": held.owner})


class FoldsOwners(Allocator):
    """Two owners are the same only if byte for byte the same; here if they are after folding."""
    def same_owner(self, holder, caller):
        return self.fold(holder) == self.fold(caller)


@breaks("owned")
class owners_without_case(FoldsOwners):
    """Owners are compared without case."""
    fold = staticmethod(str.casefold)


@breaks("owned")
class owners_stripped(FoldsOwners):
    """Owners are compared without the spaces around them."""
    fold = staticmethod(str.strip)


@breaks("owned")
class owners_normalised(FoldsOwners):
    """Owners are compared after Unicode normalisation (NFC)."""
    def fold(self, owner):
        return unicodedata.normalize("NFC", owner)


@breaks("owned")
class owners_as_integers(FoldsOwners):
    """Owners that look like integers are compared as integers: `7` is `007`."""
    def fold(self, owner):
        return int(owner) if owner.isdecimal() and len(owner) < 100 else owner


@breaks("owned")
class owners_cut_short(FoldsOwners):
    """Owners are compared by their first 63 characters."""
    def fold(self, owner):
        return owner[:63]


class ReleasesMore(Allocator):
    """Releases by owner whatever `matches`."""
    def release_owner(self, params):
        owner = self.owner(params)
        names = {name: 1 for pool in self.pools.values() for name in pool.by_owner if self.matches(name, owner)}
        parts = [super(ReleasesMore, self).release_owner({"owner": name})["released"] for name in names]
        return {"released": [entry for part in parts for entry in part]}


@breaks("owned")
class release_owner_by_beginning(ReleasesMore):
    """`release_owner` releases what that owner holds; here also what owners hold whose name begins like that."""
    def matches(self, name, owner):
        return name.startswith(owner)


@breaks("inert")
class injection(ReleasesMore):
    """Metacharacters in owners are data; here `' or 1=1 --` releases everything."""
    def matches(self, name, owner):
        return name == owner or "' or " in owner.lower()


@breaks("inert")
class wildcard(ReleasesMore):
    """Metacharacters in owners are data; here `%` matches any owner."""
    def matches(self, name, owner):
        return name == owner or owner.endswith("%") and name.startswith(owner[:-1])


@breaks("inert")
class quote_fails(Allocator):
    """Quotes in owners are data; here they are a failure of the storage."""
    def owner(self, params):
        if "'" in (owner := super().owner(params)):
            raise Refusal("storage", "the owner could not be stored")
        return owner


@breaks("inert")
class nul_accepted(Allocator):
    """An owner has no NUL; here it may."""
    def owner(self, params):
        owner = params.get("owner")
        read_name(owner.replace("\0", "x") if isinstance(owner, str) else owner)
        return owner


@breaks("released")
class release_owner_skips_one(Allocator):
    """`release_owner` releases all that the owner holds; here all but one."""
    def release_owner(self, params):
        owner = self.owner(params)
        held = [(pool, held) for pool in self.pools.values() for held in pool.of(owner).values()]
        if len(held) < 2:
            return super().release_owner(params)
        result = super().release_owner(params)
        self.hold(*held[-1])
        return {"released": result["released"][:-1]}


# Rules about repeated calls


@breaks("idempotent")
class release_unknown_ok(Allocator):
    """Releasing what nobody holds is `not_found`; here it is answered like a release."""
    def release(self, params):
        return super().release(params) if self.find(params, "ok")[1] else {}


@breaks("idempotent", "--release-unknown", "ok")
class release_unknown_refused(Allocator):
    """Releasing what nobody holds is in order by this contract; here it is `not_found`."""
    def find(self, params, unknown="not_found", anyone=False):
        return super().find(params, "not_found", anyone)


@breaks("idempotent", "--repeat", "same")
class same_gives_another(Allocator):
    """An owner that comes back gets what it holds; here it gets another address."""
    def earlier(self, owner, wanted):
        return {}


@breaks("idempotent", "--repeat", "conflict")
class conflict_grants(Allocator):
    """An owner that comes back is refused; here it gets another address."""
    def earlier(self, owner, wanted):
        return {}


@breaks("exclusive")
class another_gives_same(Allocator):
    """An owner that comes back gets another address; here it is granted the one it holds once more."""
    def grant(self, owner, expires, earlier, pool, number, length):
        held = next(iter(pool.of(owner).values()), None)
        if held and number is None and held.length == length:
            return pool.spell(held)
        return super().grant(owner, expires, earlier, pool, number, length)


# Rules about all or nothing


@breaks("atomic")
class keeps_first_grant(Allocator):
    """A refused call changes nothing; here what was granted before the refusal stays."""
    def grant(self, *arguments):
        granted = super().grant(*arguments)
        self.mark = len(self.journal)
        return granted


@breaks("atomic")
class rollback_keeps(Allocator):
    """A rolled-back transaction leaves everything as it was; here it is committed."""
    def rollback(self, params):
        return super().commit(params)


@breaks("atomic")
class commit_loses(Allocator):
    """A committed transaction stays; here it is rolled back."""
    def commit(self, params):
        return super().rollback(params)


@breaks("atomic")
class reset_only_rolls_back(Allocator):
    """`reset` goes back to the empty state; here, inside a transaction, only to where that began."""
    def reset(self, params):
        return super().rollback(params) if self.in_transaction else super().reset(params)


@breaks("atomic")
class begin_twice(Allocator):
    """`begin` inside a transaction is `invalid`; here it is accepted."""
    def begin(self, params):
        return {} if self.in_transaction else super().begin(params)


@breaks("atomic")
class pool_calls_escape(Allocator):
    """Pool calls belong to a transaction like any other; here a rollback keeps created pools."""
    def rollback(self, params):
        made = dict(self.pools)
        result = super().rollback(params)
        missing = {name: self.new_pool(name, pool.prefix, pool.settings)
                   for name, pool in made.items() if name not in self.pools}
        if missing:
            self.set(pools={**self.pools, **missing})
        return result


# Rules about list and usage


class ListsWrong(Allocator):
    def list(self, params):
        return {"allocations": self.wrong(super().list(params)["allocations"])}


@breaks("accounted")
class list_omits_one(ListsWrong):
    """`list` names every allocation; here the last of several is missing."""
    def wrong(self, entries):
        return entries[:-1] if len(entries) > 1 else entries


@breaks("accounted")
class list_repeats_one(ListsWrong):
    """`list` names every allocation once; here the first one twice."""
    def wrong(self, entries):
        return entries[:1] + entries


@breaks("accounted")
class list_wrong_owner(ListsWrong):
    """`list` names each allocation's owner; here the first one's for all."""
    def wrong(self, entries):
        return [{**entry, "owner": entries[0]["owner"]} for entry in entries]


@breaks("accounted", "--clock", "virtual")
class list_forgets_expiry(ListsWrong):
    """`list` says when a lease ends; here it does not."""
    def wrong(self, entries):
        return [{key: value for key, value in entry.items() if key != "expires_ms"} for entry in entries]


class CountsWrong(Allocator):
    def usage(self, params):
        right = super().usage(params)
        return self.wrong(self.find_pool(params), int(right["allocatable"]), int(right["allocated"]))


@breaks("accounted")
class usage_off_by_one(CountsWrong):
    """`usage` counts what is held; here one more, once something is."""
    def wrong(self, pool, allocatable, allocated):
        return {"allocatable": str(allocatable), "allocated": str(allocated + bool(allocated))}


@breaks("accounted")
class usage_as_numbers(CountsWrong):
    """`usage` answers decimal strings; here numbers."""
    def wrong(self, pool, allocatable, allocated):
        return {"allocatable": allocatable, "allocated": allocated}


@breaks("accounted")
class usage_as_floats(CountsWrong):
    """`usage` is exact beyond 2^53; here it went through a floating-point number."""
    def wrong(self, pool, allocatable, allocated):
        return {"allocatable": str(int(float(allocatable))), "allocated": str(allocated)}


@breaks("accounted")
class usage_without_held(CountsWrong):
    """`allocatable` counts held addresses too; here it does not."""
    def wrong(self, pool, allocatable, allocated):
        return {"allocatable": str(allocatable - allocated), "allocated": str(allocated)}


@breaks("accounted", "--blocks")
class usage_forgets_blocks(CountsWrong):
    """`usage` counts the addresses of blocks; here only single ones."""
    def wrong(self, pool, allocatable, allocated):
        single = sum(held.length is None for held in pool.held.values())
        return {"allocatable": str(allocatable), "allocated": str(single)}


# Rules about scope


@breaks("scoped")
class releases_across_pools(Allocator):
    """An allocation belongs to its pool; here it can be released under any pool's name."""
    def release(self, params):
        for pool in self.pools.values():
            if pool.prefix.version == self.find_pool(params).prefix.version:
                if self.read_key(params.get("address"), pool) in pool.held:
                    return super().release({**params, "pool": pool.name})
        return super().release(params)


@breaks("scoped")
class lists_all_pools(Allocator):
    """`list` of a pool names that pool's allocations; here all pools'."""
    def list(self, params):
        self.find_pool(params) if "pool" in params else None
        return super().list({})


@breaks("scoped")
class usage_adds_pools(CountsWrong):
    """`usage` counts one pool's allocations; here all pools'."""
    def wrong(self, pool, allocatable, allocated):
        return {"allocatable": str(allocatable), "allocated": str(sum(p.allocated for p in self.pools.values()))}


@breaks("scoped")
class overlap_accepted(Allocator):
    """A pool that overlaps another is refused; here it is created."""
    def check_conflicts(self, new):
        if new.name in self.pools:
            super().check_conflicts(new)


# Rules about spellings


@breaks("canonical")
class spelling_is_key(Allocator):
    """Addresses are compared as addresses; here a release must spell one as it was granted."""
    def read_key(self, text, pool):
        key = super().read_key(text, pool)
        return key if pool.spell(Allocation("", *key)) == text else (-1, None)


class RewritesAddress(Allocator):
    """Accepts a spelling that is `invalid`."""
    def read_number(self, text, pool):
        if isinstance(text, str):
            text = self.rewrite(text, pool.prefix.version)
        return super().read_number(text, pool)


@breaks("canonical")
class mapped_accepted(RewritesAddress):
    """An IPv4-mapped spelling is `invalid` in an IPv4 pool; here it is the IPv4 address."""
    def rewrite(self, text, version):
        return text[7:] if version == 4 and text.lower().startswith("::ffff:") else text


@breaks("canonical")
class leading_zeros_accepted(RewritesAddress):
    """An IPv4 address has no leading zeros; here it may."""
    def rewrite(self, text, version):
        return ".".join(part.lstrip("0") or "0" for part in text.split(".")) if version == 4 else text


@breaks("canonical")
class zone_accepted(RewritesAddress):
    """Zone identifiers are `invalid`; here they are ignored."""
    def rewrite(self, text, version):
        return text.partition("%")[0] if version == 6 else text


@breaks("contained")
class host_bits_accepted(Allocator):
    """A prefix has no host bits; here they are cleared."""
    def read_pool_prefix(self, params):
        text = params.get("prefix")
        if isinstance(text, str) and re.fullmatch(r"[0-9a-fA-F:.]+/(0|[1-9][0-9]*)", text):
            try:
                text = str(ipaddress.ip_network(text, strict=False))
            except ValueError:
                pass  # refused below
        return super().read_pool_prefix({**params, "prefix": text})


@breaks("contained")
class netmask_accepted(Allocator):
    """A prefix is ADDRESS/DECIMAL; here the netmask 255.255.255.0 is /24."""
    def read_pool_prefix(self, params):
        text = params.get("prefix")
        return super().read_pool_prefix({**params, "prefix": text.replace("/255.255.255.0", "/24")
                                         if isinstance(text, str) else text})


@breaks("contained")
class reversed_range_accepted(Allocator):
    """A reversed range is `invalid`; here it is turned round."""
    def within(self, first, last, prefix):
        return super().within(min(first, last), max(first, last), prefix)


@breaks("contained")
class range_outside_accepted(Allocator):
    """Anything outside the prefix is `invalid`; here it is cut off."""
    def within(self, first, last, prefix):
        if first <= last and first <= prefix.last and prefix.first <= last:
            first, last = max(first, prefix.first), min(last, prefix.last)
        return super().within(first, last, prefix)


# Rules about changing pools


@breaks("reconfigurable")
class create_wipes(Allocator):
    """Creating a pool whose name is taken is `conflict`; here it replaces that pool and its allocations."""
    def pool_create(self, params):
        others = {name: pool for name, pool in self.pools.items() if name != params.get("pool")}
        self.set(pools=others)
        return super().pool_create(params)


@breaks("reconfigurable")
class delete_in_use(Allocator):
    """Deleting a pool that has allocations is `in_use`; here they are released."""
    def pool_delete(self, params):
        for held in list(self.find_pool(params).held.values()):
            self.drop(self.find_pool(params), held)
        return super().pool_delete(params)


@breaks("reconfigurable")
class update_orphans(Allocator):
    """An update that leaves an allocation outside is `in_use`; here it is accepted."""
    def check_in_use(self, pool, allocatable):
        pass


@breaks("reconfigurable")
class update_forgets_exclusions(Allocator):
    """An update replaces the exclusions; here it only removes them."""
    def pool_update(self, params):
        pool = self.find_pool(params)
        self.read_settings(params, pool.prefix)
        return super().pool_update({**params, "exclude": None})


@breaks("reconfigurable")
class update_keeps_gateway(Allocator):
    """An update without a gateway leaves none; here the old one stays."""
    def pool_update(self, params):
        gateway = self.find_pool(params).settings.gateway
        if params.get("gateway") is None and gateway is not None:
            params = {**params, "gateway": str(self.find_pool(params).spell(Allocation("", gateway)))}
        return super().pool_update(params)


# Rules about time


@breaks("expiring", "--clock", "virtual")
class expires_late(Allocator):
    """A lease is held while now < expires; here one millisecond longer."""
    def is_over(self, expires, now):
        return expires < now


@breaks("expiring", "--clock", "virtual")
class expires_early(Allocator):
    """A lease is held while now < expires; here one millisecond less."""
    def is_over(self, expires, now):
        return expires - 1 <= now


@breaks("expiring", "--clock", "virtual")
class renew_revives(Allocator):
    """Renewing an expired lease is `not_found`; here it comes back if its address is still free."""
    def expire(self):
        live = {(pool.name, key): held for pool in self.pools.values() for key, held in pool.held.items()}
        super().expire()
        gone = {key: held for key, held in live.items() if key[1] not in self.pools[key[0]].held}
        self.gone = {**getattr(self, "gone", {}), **gone}

    def renew(self, params):
        pool = self.find_pool(params)
        held = self.gone.get((pool.name, self.read_key(params.get("address"), pool)))
        if held and held.key not in pool.held and pool.free.covers(*pool.span(held)):
            held.expires = None
            self.hold(pool, held)
        return super().renew(params)


@breaks("expiring", "--clock", "virtual")
class renew_does_nothing(Allocator):
    """Renewing moves the expiry; here it is only answered."""
    def extend(self, pool, allocation, expires):
        pass


@breaks("expiring", "--clock", "virtual")
class renew_adds_up(Allocator):
    """A renewed lease ends `ttl_ms` after now; here that much after its former end."""
    def renew(self, params):
        pool, held = self.find(params)
        left = (held.expires or self.now()) - self.now()
        is_number = type(params.get("ttl_ms")) is int
        return super().renew({**params, "ttl_ms": params["ttl_ms"] + left} if is_number else params)


@breaks("expiring", "--clock", "virtual")
class wrong_expires(Allocator):
    """`expires_ms` is when the lease ends; here it is rounded to seconds."""
    def allocate(self, params):
        result = super().allocate(params)
        return {**result, "expires_ms": result["expires_ms"] // 1000 * 1000} if "expires_ms" in result else result


@breaks("expiring", "--clock", "virtual")
class advance_falls_short(Allocator):
    """`advance` moves the clock by `ms`; here by one millisecond less."""
    def advance(self, params):
        return super().advance({**params, "ms": params["ms"] - 1} if type(params.get("ms")) is int else params)


@breaks("expiring", "--clock", "virtual")
class advance_in_transaction(Allocator):
    """`advance` inside a transaction is `invalid`; here it moves the clock."""
    def advance(self, params):
        inside, self.in_transaction = self.in_transaction, False
        try:
            return super().advance(params)
        finally:
            self.in_transaction = inside


@breaks("expiring", "--clock", "virtual")
class expired_in_use(Allocator):
    """Expired leases never cause `in_use`; here a pool that has some cannot be deleted."""
    def call(self, method, params):
        self.deleting = method == "pool.delete"
        return super().call(method, params)

    def expire(self):
        if not self.deleting:
            super().expire()


@breaks("expiring", "--clock", "virtual", "--repeat", "same")
class same_keeps_expiry(Allocator):
    """The answer's `expires_ms` is when the lease ends; here a repeated allocation keeps its former end."""
    def grant(self, owner, expires, earlier, pool, number, length):
        if pool.name in earlier:
            return pool.spell(self.again(earlier[pool.name], number, length))
        return super().grant(owner, expires, earlier, pool, number, length)


class TellsEndsWrong(Allocator):
    """Leases end when they should, but the ends that all answers tell are distorted alike."""
    def allocate(self, params):
        return self.distort(super().allocate(params))

    def renew(self, params):
        return self.distort(super().renew(params))

    def entry(self, pool, held):
        return self.distort(super().entry(pool, held))

    def distort(self, answer):
        return {**answer, "expires_ms": self.wrong(answer["expires_ms"])} if "expires_ms" in answer else answer


@breaks("expiring", "--clock", "wall")
class wall_tells_seconds(TellsEndsWrong):
    """Times are milliseconds; here the ends of leases are told in seconds."""
    def wrong(self, expires):
        return expires // 1000


class TellsOtherEnds(TellsEndsWrong):
    """What it tells depends on the `ttl_ms` asked for."""
    def clear(self):
        super().clear()
        self.lengths = {}  # of leases, by their end

    def expiry(self, params):
        expires = super().expiry(params)
        if expires is not None:
            self.lengths[expires] = params["ttl_ms"]
        return expires


@breaks("expiring", "--clock", "wall")
class wall_tells_start(TellsOtherEnds):
    """`expires_ms` is when the lease ends; here it is when it began."""
    def wrong(self, expires):
        return expires - self.lengths.get(expires, 0)


@breaks("expiring", "--clock", "wall")
class wall_tells_length(TellsOtherEnds):
    """`expires_ms` is a time of the clock; here it is how long the lease lasts."""
    def wrong(self, expires):
        return self.lengths.get(expires, expires)


# Rules about durable state


@breaks("durable", "--durable", needs="restart")
class state_lost(Allocator):
    """What was acknowledged survives a restart; here nothing does."""
    def load(self):
        pass


@breaks("durable", "--durable", needs="crash")
class written_late(Allocator):
    """State is on the disk before it is acknowledged; here one call later, or at the end of stdin."""
    late = None

    def save(self):
        before, self.late = self.late, self.snapshot()
        if before:
            self.store.save(before)

    def close(self):
        if self.late:
            self.store.save(self.late)


@breaks("durable", "--durable", needs="crash")
class written_in_transaction(Allocator):
    """A crash rolls a transaction back; here every call inside it is already on the disk."""
    def settle(self):
        super().settle()
        if self.in_transaction:
            self.save()


@breaks("durable", "--durable", "--clock", "virtual", needs="restart")
class clock_lost(Allocator):
    """The virtual clock survives a restart; here it starts again at 0."""
    def load(self):
        super().load()
        self.clock = 0


@breaks("durable", "--durable", needs="restart")
class restart_forgets_exclusions(Allocator):
    """Pools survive a restart as they were; here without their exclusions."""
    def load(self):
        super().load()
        for pool in self.pools.values():
            pool.configure(pool.settings._replace(exclusions=()))


@breaks("durable", "--durable", "--clock", "virtual", needs="restart")
class restart_forgets_expiry(Allocator):
    """Leases survive a restart with their ends; here they have none afterwards."""
    def load(self):
        super().load()
        for pool in self.pools.values():
            for held in pool.held.values():
                held.expires = None


@breaks("linearizable", "--shared", needs="lanes")
class stale_view(Allocator):
    """Processes on one directory see each other's changes; here each one only its own."""
    def load(self):
        if self.loaded is None:
            super().load()


# Rules about refusals


class SaysWrong(Allocator):
    """Refuses rightly, but says so wrongly."""
    def call(self, method, params):
        try:
            return super().call(method, params)
        except Refusal as refusal:
            self.reword(refusal, params)
            raise

    def reword(self, refusal, params):
        raise Refusal(self.kinds.get(refusal.kind, refusal.kind), str(refusal))


@breaks("classified")
class kind_unlisted(SaysWrong):
    """A kind is one of the list; here `full` stands for `exhausted`."""
    kinds = {"exhausted": "full"}


@breaks("classified")
class kind_internal(SaysWrong):
    """`internal` is never right; here it stands for `not_found`."""
    kinds = {"not_found": "internal"}


@breaks("classified")
class exhausted_as_conflict(SaysWrong):
    """A full pool is `exhausted`; here `conflict`."""
    kinds = {"exhausted": "conflict"}


@breaks("classified")
class stranger_as_invalid(SaysWrong):
    """A stranger's release is `not_owner`; here `invalid`."""
    kinds = {"not_owner": "invalid"}


@breaks("classified")
class conflict_as_storage(SaysWrong):
    """A taken address is `conflict`; here a failure of the storage."""
    kinds = {"conflict": "storage"}


@breaks("classified", needs="start")
class ignores_protocol_number(Allocator):
    """Another protocol number than 1 is `unsupported`; here every whole number will do."""
    def initialize(self, params):
        read_whole(params.get("protocol"), 0)
        return super().initialize({"protocol": VERSION})


class SaysTooMuch(SaysWrong):
    """Refuses rightly, with a message that holds what none may hold."""
    def reword(self, refusal, params):
        raise Refusal(refusal.kind, self.text(params))


@breaks("discreet")
class message_with_sql(SaysTooMuch):
    """A message holds no SQL; here it does."""
    def text(self, params):
        return "UNIQUE constraint failed: INSERT INTO allocations (pool, address, owner) VALUES (?, ?, ?)"


@breaks("discreet")
class message_with_path(SaysTooMuch):
    """A message holds no file paths; here it does."""
    def text(self, params):
        return "cannot open /var/lib/allocator/state.db"


@breaks("discreet")
class message_with_traceback(SaysTooMuch):
    """A message holds no stack traces or source positions; here it does."""
    def text(self, params):
        return 'Traceback (most recent call last):\n  File "allocator.py", line 42, in allocate\nKeyError: 7'


@breaks("discreet")
class message_with_owner(SaysTooMuch):
    """A message holds no other owner's name; here a refusal names who holds something in the pool."""
    def text(self, params):
        owners = [owner for pool in self.pools.values() for owner in pool.by_owner if owner != params.get("owner")]
        return f"that is held by {owners[0]}" if owners else "refused"


@breaks("tidy", needs="tidy")
class leaks_descriptor(SaysWrong):
    """Refused calls leave no more files open; here each leaves one."""
    leaked = []

    def reword(self, refusal, params):
        self.leaked.append(open(os.devnull))


@breaks("tidy", "--durable", needs="tidy")
class leaks_temporary_file(SaysWrong):
    """Refused calls leave no temporary files; here each leaves one in the state directory."""
    def reword(self, refusal, params):
        name = f"temporary-{time.monotonic_ns()}"
        open(os.path.join(self.store.folder, name), "w").close()


class Hoards(Allocator):
    """Keeps a little more of something after some calls, up to five thousand times."""
    def hoard(self, what):
        hoarded = self.__dict__.setdefault("hoarded", [])
        if len(hoarded) < 5000:
            hoarded.append(what())


@breaks("tidy", needs="tidy")
class leaks_thread(Hoards, SaysWrong):
    """Refused calls leave no threads; here each leaves one that waits for ever."""
    def reword(self, refusal, params):
        self.hoard(self.waiting)

    def waiting(self):
        threading.stack_size(1 << 16)
        thread = threading.Thread(target=threading.Event().wait, daemon=True)
        thread.start()
        return thread


@breaks("tidy", needs="tidy")
class leaks_memory(Hoards, SaysWrong):
    """Refused calls keep no memory; here each keeps a quarter of a mebibyte."""
    def reword(self, refusal, params):
        self.hoard(lambda: bytearray(1 << 18))


@breaks("tidy", needs="tidy")
class leaks_lock(Hoards, SaysWrong):
    """Refused calls leave no locks; here each leaves one on a file of its own, which is open and has no name any more."""
    def reword(self, refusal, params):
        self.hoard(self.locked)

    def locked(self):
        file = tempfile.TemporaryFile()
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


@breaks("tidy", needs="tidy")
class granting_leaks_descriptor(Hoards):
    """What was granted and given back leaves nothing behind; here each grant leaves a file open."""
    def allocate(self, params):
        granted = super().allocate(params)
        self.hoard(lambda: open(os.devnull))
        return granted


# Rules about a disk that fails


@breaks("durable", "--durable", needs="fault")
class written_in_place(Allocator):
    """A crash leaves the old state or the new one; here the old file is overwritten, which takes more than one step."""
    def save(self):
        try:
            with open(self.store.path, "wb", buffering=0) as file:
                file.write(self.snapshot())
        except OSError:
            raise Refusal("unknown_outcome", "the state may not have been written") from None


@breaks("atomic", "--durable", needs="fault")
class undo_forgotten(Allocator):
    """What cannot be written is taken back; here it stays in memory, although it was refused."""
    def settle(self):
        try:
            super().settle()
        except Refusal:
            self.journal.clear()
            raise


@breaks("durable", "--durable", needs="fault")
class failure_ignored(Allocator):
    """What cannot be written is refused; here it is acknowledged."""
    def save(self):
        try:
            super().save()
        except Refusal:
            pass


# Rules about blocks


@breaks("exclusive", "--blocks")
class block_over_address(Allocator):
    """A block consists of free addresses; here single ones may be held, which then change hands."""
    def pick(self, pool, size):
        if size == 1:
            return super().pick(pool, size)
        start = next((start for start, _ in pool.allocatable.slots(size)), None)
        inside = [held for held in pool.held.values() if start is not None and start <= held.first < start + size]
        if start is None or any(held.length is not None for held in inside):
            return super().pick(pool, size)
        for held in inside:
            self.drop(pool, held)
        return start if pool.free.covers(start, start + size - 1) else None


@breaks("contained", "--blocks")
class block_unaligned(Allocator):
    """A block is a prefix, so it has no host bits; here it begins wherever there is room."""
    def pick(self, pool, size):
        return next((first for first, last in pool.free if last - first + 1 >= size), None)


@breaks("exclusive", "--blocks")
class address_in_block(Allocator):
    """The addresses of a block are held; here its last one can be had by name, and the block shrinks out of sight."""
    def choose(self, pool, number, length):
        for held in [] if number is None else list(pool.held.values()):
            if held.length is not None and pool.span(held)[1] == number:
                self.drop(pool, held)
        return super().choose(pool, number, length)


# Misbehaviour of the process


class Misbehaving(Server):
    """Correct for `after` answers."""
    after = 3
    answered = 0

    def send(self, response):
        self.answered += 1
        if self.answered <= self.after:
            super().send(response)
        else:
            self.misbehave(response)

    def misbehave(self, response):
        super().send(self.distort(response))


@breaks("total")
class silent(Misbehaving):
    """Never answers."""
    def misbehave(self, response):
        pass


@breaks("total")
class hangs(Misbehaving):
    """Neither answers nor reads."""
    def misbehave(self, response):
        time.sleep(600)


@breaks("total")
class hangs_at_initialize(Server):
    """Does not even answer `initialize`."""
    def send(self, response):
        time.sleep(600)


@breaks("total")
class ill_typed_contract(Server):
    """Answers `initialize` with a string where the contract has a boolean."""
    def send(self, response):
        if "contract" in response.get("result", {}):
            response["result"]["contract"]["durable"] = "yes"
        super().send(response)


@breaks("total")
class exits_early(Misbehaving):
    """Exits with status 3 instead of an answer."""
    def misbehave(self, response):
        os._exit(3)


@breaks("total")
class dies_by_signal(Misbehaving):
    """Is killed by a signal instead of answering."""
    def misbehave(self, response):
        os.kill(os.getpid(), signal.SIGSEGV)


@breaks("total")
class floods(Misbehaving):
    """Writes line after line without end."""
    def misbehave(self, response):
        while True:
            self.write(b'{"jsonrpc":"2.0","method":"log"}\n' * 1000)


@breaks("total")
class endless_line(Misbehaving):
    """Writes a line without end."""
    def misbehave(self, response):
        while True:
            self.write(b"x" * 65536)


@breaks("total")
class long_line(Misbehaving):
    """Answers with a line of 20 MiB."""
    def distort(self, response):
        return {**response, "padding": "x" * (20 << 20)}


@breaks("total")
class answers_twice(Misbehaving):
    """Gives each answer twice."""
    def misbehave(self, response):
        line = json.dumps(response).encode() + b"\n"
        self.write(line * 2)


@breaks("total")
class wrong_id(Misbehaving):
    """Answers with the id of another request."""
    def distort(self, response):
        return {**response, "id": 987654321}


@breaks("total")
class id_as_other_type(Misbehaving):
    """Answers with the id as a string where it was a number, and the other way round."""
    def distort(self, response):
        number = response["id"]
        return {**response, "id": str(number) if isinstance(number, int) else 7}


@breaks("total")
class no_id(Misbehaving):
    """Answers without an id."""
    def distort(self, response):
        return {key: value for key, value in response.items() if key != "id"}


@breaks("total")
class dies_in_line(Misbehaving):
    """Dies in the middle of a line."""
    def misbehave(self, response):
        line = json.dumps(response).encode()
        self.write(line[:len(line) // 2])
        os._exit(0)


@breaks("total")
class no_newline(Misbehaving):
    """Never ends the line of its answer."""
    def misbehave(self, response):
        self.write(json.dumps(response).encode())


@breaks("total")
class not_json(Misbehaving):
    """Answers with a line that is no JSON."""
    def misbehave(self, response):
        self.write(b"OK\n")


@breaks("total")
class no_response_object(Misbehaving):
    """Answers with JSON that is no response."""
    def distort(self, response):
        return [response]


@breaks("total")
class result_and_error(Misbehaving):
    """Answers with both a result and an error."""
    def distort(self, response):
        error = {"code": -32000, "message": "refused", "data": {"kind": "conflict"}}
        return {"result": {}, "error": error, **response}


@breaks("total")
class neither_result_nor_error(Misbehaving):
    """Answers with neither a result nor an error."""
    def distort(self, response):
        return {"jsonrpc": "2.0", "id": response["id"]}


@breaks("total")
class missing_fields(Misbehaving):
    """Answers every call with an empty result."""
    def distort(self, response):
        return {**response, "result": {}} if "result" in response else response


@breaks("total")
class error_without_kind(Misbehaving):
    """Refuses every call, without a kind."""
    def distort(self, response):
        return {"jsonrpc": "2.0", "id": response["id"], "error": {"code": -32000, "message": "no"}}


class GrantsWrong(Misbehaving):
    """Distorts what `allocate` grants."""
    def distort(self, response):
        result = response.get("result", {})
        if "granted" not in result:
            return response
        return {**response, "result": {**result, "granted": self.wrong(result["granted"])}}


@breaks("total")
class grants_no_address(GrantsWrong):
    """Grants what is no address."""
    def wrong(self, granted):
        return ["banana"] * len(granted)


@breaks("total")
class grants_too_few(GrantsWrong):
    """Grants less than was requested, and calls it a success."""
    def wrong(self, granted):
        return granted[:-1]


@breaks("total")
class unasked_output(Misbehaving):
    """Writes a notification before each answer."""
    def misbehave(self, response):
        self.write(b'{"jsonrpc":"2.0","method":"progress","params":{}}\n')
        super().misbehave(response)

    def distort(self, response):
        return response


@breaks("total")
class debug_output(Misbehaving):
    """Writes free text to stdout before each answer."""
    def misbehave(self, response):
        self.write(b"DEBUG call handled\n" + json.dumps(response).encode() + b"\n")


@breaks("total")
class invalid_utf8(Misbehaving):
    """Answers with a line that is no UTF-8."""
    def misbehave(self, response):
        self.write(json.dumps(response).encode()[:-1] + b',"note":"\xff\xfe"}\n')


@breaks("total")
class closes_stdout(Misbehaving):
    """Closes stdout but lives on."""
    def misbehave(self, response):
        if self.answered == self.after + 1:
            os.close(sys.stdout.fileno())


@breaks("total", needs="restart")
class ignores_end_of_stdin(Server):
    """Does not exit at the end of stdin."""
    def run(self):
        super().run()
        time.sleep(600)


@breaks("total")
class answers_late(Misbehaving):
    """Answers rightly, but after its time-out."""
    def misbehave(self, response):
        time.sleep(self.allocator.contract["timeout_ms"] * 1.5 / 1000)
        Server.send(self, response)


@breaks("total", needs="restart")
class leaves_child(Misbehaving):
    """Leaves a child process that holds stdout open beyond the exit."""
    def misbehave(self, response):
        if self.answered == self.after + 1:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.DEVNULL)
        Server.send(self, response)


def main():
    parser = options()
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--break", dest="name", choices=TABLE, metavar="NAME")
    parser.add_argument("--after", type=int, default=Misbehaving.after, metavar="N",
                        help="a process breakage begins after this many right answers")
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args()
    if chosen.list:
        for breakage in TABLE.values():
            print(json.dumps(breakage.as_object()))
        return
    if not chosen.name:
        parser.error("--break or --list is needed")
    made, promised = TABLE[chosen.name].made, contract(chosen)
    is_rule = TABLE[chosen.name].kind == "rule"
    server = (Server if is_rule else made)((made if is_rule else Allocator)(promised, store_for(promised)))
    server.after = chosen.after
    try:
        server.run()
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)


if __name__ == "__main__":
    main()
