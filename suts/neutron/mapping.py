"""Between the protocol's words and Neutron's: texts and ranges on the way in, exceptions on the way out.

Texts are checked by the validators of Neutron's API first, and only then by the rules of the protocol.
"""
import netaddr
import sqlalchemy.exc
from neutron.ipam import exceptions as ipam
from neutron_lib import exceptions as lib
from neutron_lib.api import validators
from neutron_lib.objects import exceptions as objects
from oslo_db import exception as db

from pools import Pool, Settings
from protocol import Prefix, Refusal, invalid, read_address, read_list, read_prefix, spell

# How a call that ends with an exception is refused. The nearest ancestor counts; what has none here is a defect.
KINDS = {
    ipam.InvalidIpForSubnet: "invalid",
    ipam.InvalidSubnetRequest: "invalid",
    ipam.IpamValueInvalid: "invalid",
    lib.InvalidInput: "invalid",
    netaddr.AddrFormatError: "invalid",
    lib.SubnetNotFound: "not_found",
    ipam.IpAddressAlreadyAllocated: "conflict",
    ipam.IpAddressGenerationFailure: "exhausted",
    lib.IpAddressGenerationFailure: "exhausted",  # by this name the back end tells of all subnets
    lib.ServiceUnavailable: "busy",
    objects.NeutronDbObjectDuplicateEntry: "busy",  # lost a race; Neutron's API starts such calls again
    db.DBDeadlock: "busy",
    db.DBError: "storage",
    sqlalchemy.exc.DBAPIError: "storage",  # what oslo.db passes on as it is: no room, no such file, locked
}


def refusal(error):
    """Neutron's exceptions are told as its API tells them. Of others it only says that something went wrong; here the
    class is told, for whoever reads a finding."""
    kind = next((KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in KINDS), None)
    if kind is None:
        return Refusal("internal", f"{type(error).__name__}: {error}")
    if kind == "storage":  # its text is SQL, which Neutron's API keeps from callers too
        return Refusal(kind, "the database failed")
    return Refusal(kind, str(error))


# Texts

def check(complaint):
    """Validators of Neutron answer with what is wrong, or with None."""
    if complaint:
        raise invalid(complaint)


def checked_prefix(text, is_strict):
    """Neutron cuts host bits off, which the protocol refuses. Not strict, all else is as Neutron 29.0.0 takes it: for
    the length of an IPv6 prefix also a netmask, and any digits and underscores that Python's `int` takes."""
    check(validators.validate_subnet(text))
    net = netaddr.IPNetwork(text)
    if is_strict or net.ip != net.network:
        return read_prefix(text)
    return Prefix(net.version, net.first, net.prefixlen)


def checked_address(text):
    check(validators.validate_ip_address(text))
    return text


def checked_settings(params, prefix):
    """Ranges, gateway and exclusions of `pool.create` and `pool.update`, all inside the prefix."""
    ranges = [read_range(pair, prefix) for pair in read_list(params.get("ranges"), list)]
    exclusions = [read_exclusion(text, prefix) for text in read_list(params.get("exclude"), str)]
    gateway = params.get("gateway")
    if gateway is not None:
        gateway = read_span(checked_address(gateway), gateway, prefix)[0]
    return Settings(tuple(ranges), gateway, tuple(exclusions))


def read_range(pair, prefix):
    if len(pair) != 2:
        raise invalid("a range is a pair of addresses")
    check(validators.validate_ip_pools([{"start": pair[0], "end": pair[1]}]))
    return read_span(*pair, prefix)


def read_exclusion(text, prefix):
    if "/" in text:
        hole = read_prefix(text, prefix.version)
        return within(hole.first, hole.last, prefix)
    first, dash, last = text.partition("-")
    return read_span(first, last if dash else first, prefix)


def read_span(first, last, prefix):
    return within(read_address(first, prefix.version)[1], read_address(last, prefix.version)[1], prefix)


def within(first, last, prefix):
    if not prefix.first <= first <= last <= prefix.last:
        raise invalid("that runs backwards, or leaves the pool's prefix")
    return first, last


# Ranges

def has_edges(prefix):
    return bool(Pool(None, prefix, Settings()).edges())


def gateway_ip(prefix, settings, works_around):
    """The gateway as Neutron takes it: none at an edge of an IPv4 prefix, where the pools alone keep it free. For Neutron
    29.0.0 the addresses of a /31 and a /32 are edges, too."""
    is_at_end = prefix.version == 4 and settings.gateway in (prefix.first, prefix.last)
    if settings.gateway is None or is_at_end and (works_around or has_edges(prefix)):
        return None
    return spell(prefix.version, settings.gateway)


def cidr(prefix):
    return spell(prefix.version, prefix.first, prefix.length)


def allocation_pools(prefix, settings, part):
    """What the protocol lets the pool hand out in this part of the prefix, as Neutron writes it."""
    spans = [(max(first, part[0]), min(last, part[1])) for first, last in Pool(None, prefix, settings).allocatable]
    ends = [[netaddr.IPAddress(end, prefix.version) for end in span] for span in spans if span[0] <= span[1]]
    return [netaddr.IPRange(first, last) for first, last in ends]


def parts(prefix, count):
    """The prefix as so many parts, first and last number of each; not more than there are addresses."""
    size = prefix.last - prefix.first + 1
    count = min(count, size)
    cuts = [prefix.first + size * i // count for i in range(count + 1)]
    return [(first, end - 1) for first, end in zip(cuts, cuts[1:])]
