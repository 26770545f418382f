#!/usr/bin/env python3
"""A complete SUT in one file: an IPv4 and IPv6 allocator that speaks protocol version 1.
Try it:  poolproof check --sut 'stdio:python3 suts/python/minimal.py'"""
import ipaddress, json, sys

class Refused(Exception):
    """Its argument is the kind of the refusal. Whoever raises it leaves everything as it was."""

def demand(condition, kind="invalid"):
    if not condition:
        raise Refused(kind)

def name(value):
    demand(isinstance(value, str) and "\0" not in value and 1 <= len(value.encode()) <= 255)
    return value

def listed(value, kind):
    demand(value is None or isinstance(value, list) and all(isinstance(item, kind) for item in value))
    return value or []

def address(text, version):
    demand(isinstance(text, str) and "%" not in text)  # ip_address takes integers and zone identifiers
    parsed = ipaddress.ip_address(text)
    demand(parsed.version == version)
    return int(parsed)

def prefix(text):
    demand(isinstance(text, str) and "%" not in text)
    length = text.partition("/")[2]
    demand(str(int(length)) == length)  # ip_network takes netmasks, bare addresses and /08
    return ipaddress.ip_network(text)

class Pool:
    def __init__(self, fields):
        net, gateway = prefix(fields.get("prefix")), fields.get("gateway")
        self.version, self.spell, self.held = net.version, type(net[0]), {}
        self.first, self.last = int(net[0]), int(net[-1])
        inside = [self.span(f"{low}-{high}") for low, high in listed(fields.get("ranges"), list)]
        outside = [self.span(text) for text in listed(fields.get("exclude"), str)]
        outside += [] if gateway is None else [self.span(f"{gateway}-{gateway}")]
        if net.max_prefixlen - net.prefixlen >= 2:  # the edges: network and broadcast, or subnet-router anycast
            outside += [(self.first, self.first)] + [(self.last, self.last)] * (net.version == 4)
        # Between two neighbouring cuts either all addresses are allocatable or none: a prefix is never enumerated.
        inside = inside or [(self.first, self.last)]
        cuts = sorted({cut for first, last in inside + outside for cut in (first, last + 1)})
        within = lambda number, spans: any(first <= number <= last for first, last in spans)
        self.spans = [range(a, b) for a, b in zip(cuts, cuts[1:]) if within(a, inside) and not within(a, outside)]
        self.released, self.fresh = set(), (number for span in self.spans for number in span)

    def span(self, text):
        """First and last address of ADDRESS-ADDRESS, ADDRESS/LENGTH or ADDRESS, all inside the pool."""
        ends = (str(prefix(text)[0]), str(prefix(text)[-1])) if "/" in text else text.split("-")
        first, last = address(ends[0], self.version), address(ends[-1], self.version)
        demand(len(ends) <= 2 and self.first <= first <= last <= self.last)
        return first, last

    def hold(self, number, owner):
        if number is None:  # what was released, else upwards, past what was asked for by name
            ahead = (number for number in self.fresh if number not in self.held)
            number = self.released.pop() if self.released else next(ahead, None)
            demand(number is not None, "exhausted")
        demand(any(number in span for span in self.spans))
        demand(number not in self.held, "conflict")
        self.held[number] = owner
        self.released.discard(number)
        return number

    def drop(self, number):
        self.released.add(number)
        return self.held.pop(number)

pools = {}

def find(pool):
    demand(name(pool) in pools, "not_found")
    return pools[pool]

def initialize(call):
    demand(type(call.get("protocol")) is int)
    demand(call["protocol"] == 1, "unsupported")
    return {"name": "minimal", "version": "1", "contract": {"methods": list(METHODS)[3:]}}

def create(call):
    new = Pool(call)
    demand(name(call.get("pool")) not in pools, "conflict")
    demand(not any(old.version == new.version and old.first <= new.last and new.first <= old.last
                   for old in pools.values()), "conflict")
    pools[call["pool"]] = new
    return {}

def delete(call):
    demand(not find(call.get("pool")).held, "in_use")
    del pools[call["pool"]]
    return {}

def allocate(call):
    owner, wanted, granted = name(call.get("owner")), [], {}
    for request in listed(call.get("requests"), dict):
        demand(request.get("prefix_len") is None, "unsupported")
        pool, text = find(request.get("pool")), request.get("address")
        wanted.append((pool, None if text is None else address(text, pool.version)))
    demand(wanted)
    try:  # names first, so that a request for any address takes none of them
        for i in sorted(range(len(wanted)), key=lambda i: wanted[i][1] is None):
            granted[i] = wanted[i][0].hold(wanted[i][1], owner)
    except Refused:
        for i in granted:
            wanted[i][0].drop(granted[i])
        raise
    return {"granted": [str(pool.spell(granted[i])) for i, (pool, _) in enumerate(wanted)]}

def release(call):
    pool, owner = find(call.get("pool")), name(call.get("owner"))
    number = address(call.get("address"), pool.version)
    demand(number in pool.held, "not_found")
    demand(pool.held[number] == owner, "not_owner")
    pool.drop(number)
    return {}

def list_allocations(call):
    some = pools if call.get("pool") is None else {call["pool"]: find(call["pool"])}
    return {"allocations": [{"pool": key, "address": str(pool.spell(number)), "owner": owner}
                            for key, pool in some.items() for number, owner in pool.held.items()]}

def usage(call):
    pool = find(call.get("pool"))
    return {"allocatable": str(sum(span.stop - span.start for span in pool.spans)), "allocated": str(len(pool.held))}

def reset(call):
    pools.clear()
    return {}

METHODS = {"initialize": initialize, "allocate": allocate, "pool.create": create, "pool.delete": delete,
           "release": release, "list": list_allocations, "usage": usage, "reset": reset}

def answer(line):
    number, code = None, -32700
    try:
        # Python would take NaN, which is no JSON, and refuse integers that are too long for it, which are.
        call = json.loads(line.decode(), parse_constant=int, parse_int=lambda digits: int(digits[:99]))
        code = -32600
        demand(isinstance(call, dict) and type(call.get("id")) in (int, str))
        number = call["id"]
        demand(call.get("jsonrpc") == "2.0" and isinstance(call.get("method"), str))
        code, params = -32602, {} if call.get("params") is None else call["params"]
        demand(isinstance(params, dict))
        demand(call["method"] in METHODS, "unsupported")
        return {"jsonrpc": "2.0", "id": number, "result": METHODS[call["method"]](params)}
    except (Refused, ValueError, RecursionError) as refused:  # ValueError: from parsing, before anything changes
        kind = refused.args[0] if isinstance(refused, Refused) else "invalid"
    error = {"code": code if kind == "invalid" else -32000, "message": f"refused: {kind}", "data": {"kind": kind}}
    return {"jsonrpc": "2.0", "id": number, "error": error}

if __name__ == "__main__":
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(answer(line)) + "\n")
        sys.stdout.flush()
