#!/usr/bin/env python3
"""A SUT with the whole protocol: every method, and every contract switch as an option of the command line.

    poolproof check --sut 'stdio:python3 suts/python/allocator.py --durable --clock virtual --blocks'

`protocol.py` reads and answers lines, `pools.py` knows which addresses are free, `store.py` keeps the state. Here are
the methods, and what they share: every change goes through `change`, which remembers how to undo it. A refused call, a
failed write and a rolled-back transaction all undo in the same way.
"""
import argparse
import heapq
import json
import os
import sys
import time

from pools import Allocation, Pool, Settings
from protocol import (BITS, MAX_TIME, VERSION, Prefix, Refusal, Server, invalid, read_address, read_list, read_name,
                      read_prefix, read_whole, without_nulls)
from store import SharedStore, Store

ALWAYS = ["initialize", "allocate", "pool.create"]
OPTIONAL = ["reset", "pool.update", "pool.delete", "release", "release_owner", "renew", "begin", "commit", "rollback",
            "list", "usage", "advance"]


class Allocator:
    NAME = "python"
    Pool = Pool

    def __init__(self, contract, store=None):
        self.contract, self.store = contract, store
        self.methods = ALWAYS + contract["methods"]
        self.journal = []  # how to undo what no file holds yet, oldest first
        self.mark = 0  # where this call began in the journal
        self.in_transaction = False
        self.loaded = None
        self.clear()
        if store:
            self.load()

    def clear(self):
        self.pools, self.clock = {}, 0
        self.expiries, self.crowded = [], 64  # heap of (expiry, serial, pool, allocation), some of them outdated
        self.serial = 0

    # Calls

    def call(self, method, params):
        if method not in self.methods:
            raise Refusal("unsupported", "this method is not offered")
        handler = getattr(self, method.replace(".", "_"))
        if method == "initialize":
            return handler(params)
        self.enter()
        try:
            self.expire()
            self.mark = len(self.journal)
            try:
                result = handler(params)
                self.settle()
                return result
            except BaseException:
                self.undo(self.mark)
                raise
        finally:
            self.leave()

    def enter(self):
        if self.store and not self.in_transaction:
            self.store.lock()
            if self.contract["shared"]:
                try:
                    self.load()
                except BaseException:
                    self.store.unlock()  # nobody waits for a call that is refused
                    raise

    def leave(self):
        if self.store and not self.in_transaction:
            self.store.unlock()

    def change(self, do, undo):
        self.journal.append(undo)
        do()

    def undo(self, mark):
        while len(self.journal) > mark:
            self.journal.pop()()

    def settle(self):
        """Makes what has changed last: on the disk before it is acknowledged."""
        if self.in_transaction or not self.journal:
            return
        try:
            if self.store:
                self.save()
        except Refusal as refusal:
            if refusal.kind == "unknown_outcome":  # it has happened, for all that anybody can see
                self.journal.clear()
            raise
        self.journal.clear()

    # Durable state

    def close(self):
        """The end of stdin. Nothing is left to do: whatever was acknowledged is on the disk."""

    def save(self):
        data = self.snapshot()
        self.loaded = None  # until it is known what the file holds
        self.store.save(data)
        self.loaded = data

    def snapshot(self):
        pools = [{"name": pool.name, "prefix": pool.prefix, "settings": pool.settings,
                  "held": [(held.owner, held.first, held.length, held.expires) for held in pool.held.values()]}
                 for pool in self.pools.values()]
        return json.dumps({"clock": self.clock, "pools": pools}).encode()

    def load(self):
        data = self.store.load()
        if data == self.loaded:
            return
        self.clear()
        self.loaded = data
        state = json.loads(data) if data else {"clock": 0, "pools": []}
        self.clock = state["clock"]
        for saved in state["pools"]:
            pool = self.new_pool(saved["name"], Prefix(*saved["prefix"]), self.saved_settings(*saved["settings"]))
            self.pools[pool.name] = pool
            for held in saved["held"]:
                self.put(pool, Allocation(*held))

    def saved_settings(self, ranges, gateway, exclusions):
        return Settings(tuple(map(tuple, ranges)), gateway, tuple(map(tuple, exclusions)))

    # Time

    def now(self):
        if self.contract["clock"] == "wall":
            self.clock = max(self.clock, time.time_ns() // 1_000_000)  # never back, whatever the machine's clock does
        return self.clock

    def is_over(self, expires, now):
        """A lease is held while now < expires."""
        return expires <= now

    def expire(self):
        """Drops every lease that is over. A file need not hold this: whoever loads it drops them again."""
        now = self.now()
        while self.expiries and self.is_over(self.expiries[0][0], now):
            entry = heapq.heappop(self.expiries)
            if self.is_current(entry):
                self.drop(*entry[2:])
        if not self.in_transaction:
            self.journal.clear()

    def is_current(self, entry):
        _, serial, pool, allocation = entry
        return allocation.watch == serial and pool.held.get(allocation.key) is allocation

    def watch(self, pool, allocation):
        self.serial += 1
        allocation.watch = self.serial
        if allocation.expires is not None:
            heapq.heappush(self.expiries, (allocation.expires, self.serial, pool, allocation))
        if len(self.expiries) > self.crowded:  # renewals and releases leave outdated entries behind
            self.expiries = [entry for entry in self.expiries if self.is_current(entry)]
            heapq.heapify(self.expiries)
            self.crowded = 2 * len(self.expiries) + 64

    def expiry(self, params):
        """When a lease that begins now ends; None without `ttl_ms`."""
        if "ttl_ms" not in params:
            return None
        if self.contract["clock"] == "none":
            raise invalid("there is no clock, so there are no leases")
        return read_whole(self.now() + read_whole(params["ttl_ms"], 1), 0)

    # Changes

    def put(self, pool, allocation):
        pool.hold(allocation)
        self.watch(pool, allocation)

    def hold(self, pool, allocation):
        self.change(lambda: self.put(pool, allocation), lambda: pool.drop(allocation))

    def drop(self, pool, allocation):
        self.change(lambda: pool.drop(allocation), lambda: self.put(pool, allocation))

    def extend(self, pool, allocation, expires):
        def to(value):
            allocation.expires = value
            self.watch(pool, allocation)
        before = allocation.expires
        self.change(lambda: to(expires), lambda: to(before))

    def set(self, **values):
        """Changes attributes of the allocator itself."""
        before = {field: getattr(self, field) for field in values}
        self.change(lambda: self.__dict__.update(values), lambda: self.__dict__.update(before))

    # Reading

    def owner(self, params):
        return read_name(params.get("owner"))

    def find_pool(self, params):
        pool = self.pools.get(read_name(params.get("pool")))
        if pool is None:
            raise Refusal("not_found", "there is no such pool")
        return pool

    def read_number(self, text, pool):
        return read_address(text, pool.prefix.version)[1]

    def read_key(self, text, pool):
        """Address, or block in CIDR form, as the key it is held by."""
        if isinstance(text, str) and "/" in text:
            block = read_prefix(text, pool.prefix.version)
            return block.first, block.length
        return self.read_number(text, pool), None

    def find(self, params, unknown="not_found", anyone=False):
        """The pool and the allocation that a call means, None for an unknown one where that is in order."""
        pool = self.find_pool(params)
        key = self.read_key(params.get("address"), pool)
        owner = None if anyone and "owner" not in params else self.owner(params)
        allocation = pool.held.get(key)
        if allocation is None and unknown == "not_found":
            raise Refusal("not_found", "nobody holds that")
        if allocation and not anyone and not self.same_owner(allocation.owner, owner):
            raise Refusal("not_owner", "somebody else holds that")
        return pool, allocation

    def same_owner(self, holder, caller):
        return holder == caller

    def read_pool_prefix(self, params):
        prefix = read_prefix(params.get("prefix"))
        if f"ipv{prefix.version}" not in self.contract["families"]:
            raise invalid("this address family is not offered")
        return prefix

    def read_settings(self, params, prefix):
        ranges = tuple(self.read_range(pair, prefix) for pair in read_list(params.get("ranges"), list))
        exclusions = tuple(self.read_exclusion(text, prefix) for text in read_list(params.get("exclude"), str))
        gateway = params.get("gateway")
        if gateway is not None:
            gateway = self.read_span(gateway, gateway, prefix)[0]
        return Settings(ranges, gateway, exclusions)

    def read_range(self, pair, prefix):
        if len(pair) != 2:
            raise invalid("a range is a pair of addresses")
        return self.read_span(*pair, prefix)

    def read_exclusion(self, text, prefix):
        if "/" in text:
            hole = read_prefix(text, prefix.version)
            return self.within(hole.first, hole.last, prefix)
        first, dash, last = text.partition("-")
        return self.read_span(first, last if dash else first, prefix)

    def read_span(self, first, last, prefix):
        return self.within(read_address(first, prefix.version)[1], read_address(last, prefix.version)[1], prefix)

    def within(self, first, last, prefix):
        if first > last:
            raise invalid("a range does not run backwards")
        if first < prefix.first or prefix.last < last:
            raise invalid("that is outside the pool's prefix")
        return first, last

    # Methods

    def initialize(self, params):
        if read_whole(params.get("protocol"), 0) != VERSION:
            raise Refusal("unsupported", "this is protocol version 1")
        return {"name": self.NAME, "version": "1", "contract": self.contract}

    def reset(self, params):
        self.undo(0)
        self.mark = 0
        fields = ("pools", "clock", "expiries", "crowded", "serial")
        before = {field: getattr(self, field) for field in fields}
        self.change(self.clear, lambda: self.__dict__.update(before))
        return {}

    def new_pool(self, name, prefix, settings):
        return self.Pool(name, prefix, settings, self.contract["reserves_edges"])

    def pool_create(self, params):
        name, prefix = read_name(params.get("pool")), self.read_pool_prefix(params)
        pool = self.new_pool(name, prefix, self.read_settings(params, prefix))
        self.check_conflicts(pool)
        self.set(pools={**self.pools, name: pool})
        return {}

    def check_conflicts(self, new):
        if new.name in self.pools:
            raise Refusal("conflict", "there is a pool of that name")
        if self.contract["disjoint_pools"] and any(new.prefix.overlaps(pool.prefix) for pool in self.pools.values()):
            raise Refusal("conflict", "the pool overlaps another")

    def pool_update(self, params):
        pool = self.find_pool(params)
        before, after = pool.settings, self.read_settings(params, pool.prefix)
        self.check_in_use(pool, pool.plan(after))
        self.change(lambda: pool.configure(after), lambda: pool.configure(before))
        return {}

    def check_in_use(self, pool, allocatable):
        if not all(allocatable.covers(*pool.span(held)) for held in pool.held.values()):
            raise Refusal("in_use", "an allocation would fall outside")

    def pool_delete(self, params):
        pool = self.find_pool(params)
        if pool.held:
            raise Refusal("in_use", "the pool has allocations")
        self.set(pools={name: other for name, other in self.pools.items() if other is not pool})
        return {}

    def allocate(self, params):
        owner, expires = self.owner(params), self.expiry(params)
        wanted = [self.read_request(without_nulls(request)) for request in read_list(params.get("requests"), dict)]
        if not wanted:
            raise invalid("there are no requests")
        earlier, granted = self.earlier(owner, wanted), {}
        for i in self.order(wanted):
            try:
                granted[i] = self.grant(owner, expires, earlier, *wanted[i])
            except Refusal:
                if not self.contract["atomic"]:
                    self.mark = len(self.journal)  # what was granted before stays, as this contract says
                    self.settle()
                raise
        result = {"granted": [granted[i] for i in range(len(wanted))]}
        return result if expires is None else {**result, "expires_ms": expires}

    def order(self, wanted):
        """Names first, for nobody else may take those; then blocks, larger ones first. As sizes divide each other, a
        large block costs the small ones the same wherever it goes: what does not fit in this order does not fit."""
        def rank(i):
            _, number, length = wanted[i]
            return -1 if number is not None else 1000 if length is None else length
        return sorted(range(len(wanted)), key=rank)

    def read_request(self, request):
        """Pool, number of the address asked for or None, prefix length of the block asked for or None."""
        if "prefix_len" in request and not self.contract["blocks"]:
            raise Refusal("unsupported", "blocks are not offered")
        if "prefix_len" in request and "address" in request:
            raise invalid("a request names an address or a block's length, not both")
        pool, number, length = self.find_pool(request), None, None
        if "address" in request:
            number = self.read_number(request["address"], pool)
        if "prefix_len" in request:
            length = read_whole(request["prefix_len"], 0, BITS[pool.prefix.version])
        return pool, number, length

    def earlier(self, owner, wanted):
        """Per pool what the owner holds from earlier calls, where the contract makes a difference of that."""
        if self.contract["repeat"] == "another":
            return {}
        return {pool.name: dict(pool.of(owner)) for pool, _, _ in wanted if pool.of(owner)}

    def grant(self, owner, expires, earlier, pool, number, length):
        if pool.name in earlier:
            allocation = self.again(earlier[pool.name], number, length)
            self.extend(pool, allocation, expires)
        else:
            allocation = Allocation(owner, self.choose(pool, number, length), length, expires)
            self.hold(pool, allocation)
        return pool.spell(allocation)

    def again(self, held, number, length):
        """An owner that comes back gets what it holds, each allocation for one request of the call."""
        for key in held:
            if self.contract["repeat"] == "same" and key[1] == length and number in (None, key[0]):
                return held.pop(key)
        raise Refusal("conflict", "this owner has an allocation there")

    def choose(self, pool, number, length):
        if number is None:
            number = self.pick(pool, pool.size(length))
        elif not pool.allocatable.covers(number, number):
            raise invalid("this address is not handed out")
        elif not pool.free.covers(number, number):
            raise Refusal("conflict", "this address is taken")
        if number is None:
            raise Refusal("exhausted", "nothing is free")
        return number

    def pick(self, pool, size):
        if not self.contract["complete"] and pool.free.size <= size:
            return None  # incomplete on purpose: the last free ones are kept back
        return pool.drawn(size) if self.contract["unpredictable"] else pool.lowest(size)

    def release(self, params):
        anyone = self.contract["release_by"] == "anyone"
        pool, allocation = self.find(params, self.contract["release_unknown"], anyone)
        if allocation:
            self.drop(pool, allocation)
        return {}

    def release_owner(self, params):
        owner = self.owner(params)
        gone = [(pool, held) for pool in self.pools.values() for held in list(pool.of(owner).values())]
        for pool, held in gone:
            self.drop(pool, held)
        return {"released": [{"pool": pool.name, "address": pool.spell(held)} for pool, held in gone]}

    def renew(self, params):
        pool, allocation = self.find(params)
        expires = self.expiry({"ttl_ms": params.get("ttl_ms")})
        self.extend(pool, allocation, expires)
        return {"expires_ms": expires}

    def begin(self, params):
        if self.in_transaction:
            raise invalid("a transaction is open")
        self.set(in_transaction=True)
        return {}

    def commit(self, params):
        self.need_transaction()
        self.set(in_transaction=False)
        return {}

    def rollback(self, params):
        self.need_transaction()
        self.undo(0)  # back to before `begin`
        return {}

    def need_transaction(self):
        if not self.in_transaction:
            raise invalid("no transaction is open")

    def list(self, params):
        pools = [self.find_pool(params)] if "pool" in params else self.pools.values()
        return {"allocations": [self.entry(pool, held) for pool in pools for held in pool.held.values()]}

    def entry(self, pool, held):
        entry = {"pool": pool.name, "address": pool.spell(held), "owner": held.owner}
        return entry if held.expires is None else {**entry, "expires_ms": held.expires}

    def usage(self, params):
        pool = self.find_pool(params)
        return {"allocatable": str(pool.allocatable.size), "allocated": str(pool.allocated)}

    def advance(self, params):
        if self.in_transaction:
            raise invalid("time stands still in a transaction")
        self.set(clock=read_whole(self.clock + read_whole(params.get("ms"), 0), 0))
        return {"now_ms": self.clock}


# Command line

def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--shared", action="store_true", help="several processes on one directory; implies --durable")
    parser.add_argument("--repeat", choices=["another", "same", "conflict"], default="another")
    parser.add_argument("--release-unknown", choices=["not_found", "ok"], default="not_found")
    parser.add_argument("--release-by", choices=["owner", "anyone"], default="owner")
    parser.add_argument("--no-reserves-edges", dest="reserves_edges", action="store_false")
    parser.add_argument("--incomplete", dest="complete", action="store_false", help="keeps the last free address back")
    parser.add_argument("--no-atomic", dest="atomic", action="store_false")
    parser.add_argument("--no-disjoint-pools", dest="disjoint_pools", action="store_false")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--clock", choices=["none", "virtual", "wall"], default="none")
    parser.add_argument("--unpredictable", action="store_true")
    parser.add_argument("--families", type=words, default=["ipv4", "ipv6"], help="comma-separated")
    parser.add_argument("--without", type=words, default=[], help="comma-separated methods that are not offered")
    parser.add_argument("--timeout-ms", type=int, default=5000)
    return parser


def words(text):
    return [word for word in text.split(",") if word]


def contract(chosen):
    """The contract as `initialize` answers it, from the options chosen."""
    fields = ["families", "durable", "shared", "repeat", "release_unknown", "release_by", "reserves_edges", "complete",
              "atomic", "disjoint_pools", "blocks", "clock", "unpredictable", "timeout_ms"]
    made = {field: getattr(chosen, field) for field in fields}
    made["durable"] = chosen.durable or chosen.shared
    timeless = {"none": ["renew", "advance"], "wall": ["advance"], "virtual": []}[chosen.clock]
    made["methods"] = [method for method in OPTIONAL if method not in timeless + chosen.without]
    return made


def store_for(promised):
    if not promised["durable"]:
        return None
    folder = os.environ.get("POOLPROOF_STATE_DIR")
    if not folder:
        sys.exit("a durable allocator keeps its state in POOLPROOF_STATE_DIR, which is not set")
    return (SharedStore if promised["shared"] else Store)(folder)


if __name__ == "__main__":
    promised = contract(options().parse_args())
    Server(Allocator(promised, store_for(promised))).run()
