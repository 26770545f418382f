"""Two ways from a call to the driver: straight to its interface, or through Neutron's pluggable back end.

Both take requests as `Wanted`, serve those for a named address first, and answer (address, subnet) for each. A request
for any address is of the class that `--any` says.
"""
import hashlib
from typing import NamedTuple

import netaddr
from neutron.db.ipam_pluggable_backend import IpamPluggableBackend
from neutron.ipam import exceptions as ipam
from neutron.ipam import requests
from neutron_lib import constants
from oslo_utils import uuidutils

from protocol import Refusal
from record import Pool

LONGEST_EUI64 = 64  # a longer prefix leaves no room for the 64 bits that are made of a MAC address
NO_DHCP = "compute:poolproof"  # any kind of port but that of a DHCP agent, whose addresses are chosen in order


class Wanted(NamedTuple):
    pool: Pool
    address: netaddr.IPAddress | None  # None: any
    subnet_id: str | None  # whose the named address is


def named_first(wanted):
    """Neutron's own order: so a request for any address takes none that the same call names."""
    return sorted(range(len(wanted)), key=lambda i: wanted[i].address is None)


def may_hand_out(subnet, address):
    """Is the address in one of the subnet's allocation pools?"""
    return any(address in pool for pool in subnet.get_details().allocation_pools)


class Direct:
    """The driver's own interface."""

    def __init__(self, any_class):
        self.any_class = any_class

    def allocate(self, context, driver, owner, wanted):
        granted = {}
        for i in named_first(wanted):
            if i not in granted:
                granted.update(self.grant(driver, owner, wanted, i))
        return [granted[i] for i in range(len(wanted))]

    def grant(self, driver, owner, wanted, i):
        """Serves this request, and with it those that make one bulk request together."""
        pool, address, subnet_id = wanted[i]
        if address is not None:
            return {i: driver.get_allocator([subnet_id]).allocate(requests.SpecificAddressRequest(address))}
        alike = [j for j, other in enumerate(wanted) if other == wanted[i]]
        if len(alike) > 1 and self.has_bulk(driver, pool):
            return dict(zip(alike, self.bulk(driver, pool, len(alike))))
        return {i: self.grant_any(driver, owner, pool)}

    def has_bulk(self, driver, pool):
        """Neither the abstract interface nor a group of subnets takes bulk requests; Neutron's own subnet does."""
        return (self.any_class == "any" and len(pool.subnet_ids) == 1
                and hasattr(driver.get_subnet(pool.subnet_ids[0]), "bulk_allocate"))

    def bulk(self, driver, pool, count):
        subnet_id = pool.subnet_ids[0]
        addresses = driver.get_subnet(subnet_id).bulk_allocate(requests.BulkAddressRequest(count))
        return [(address, subnet_id) for address in addresses]

    def grant_any(self, driver, owner, pool):
        if self.any_class == "automatic" and netaddr.IPNetwork(pool.cidr).prefixlen <= LONGEST_EUI64:
            return self.automatic(driver, owner, pool)
        if self.any_class == "preferred-next":
            return self.next(None, driver, pool.subnet_ids)
        return driver.get_allocator(list(pool.subnet_ids)).allocate(requests.AnyAddressRequest())

    def next(self, context, driver, subnet_ids):
        return driver.get_allocator(list(subnet_ids)).allocate(requests.PreferNextAddressRequest())

    def automatic(self, driver, owner, pool):
        """The one address that follows from the owner's MAC address; where it will not do, there is no other."""
        request = requests.AutomaticAddressRequest(prefix=pool.cidr, mac=mac_of(owner))
        for subnet_id in pool.subnet_ids:
            if may_hand_out(driver.get_subnet(subnet_id), request.address):
                return self.take(driver.get_allocator([subnet_id]), request)
        raise Refusal("exhausted", "this owner's address is not one that is handed out")

    def take(self, allocator, request):
        try:
            return allocator.allocate(request)
        except ipam.IpAddressAlreadyAllocated as error:
            raise Refusal("exhausted", str(error)) from error

    def release(self, context, driver, holdings):
        for holding in holdings:
            driver.get_subnet(holding.subnet_id).deallocate(holding.address)


def mac_of(owner):
    """Always the same for this owner, in the range that Neutron gives to ports."""
    return "fa:16:3e:" + hashlib.sha256(owner.encode()).digest()[:3].hex(":")


class Pluggable:
    """Neutron's own way from a port to the driver, with its order, its undoing and its choice of request classes."""

    def __init__(self, any_class):
        device = constants.DEVICE_OWNER_DHCP if any_class == "preferred-next" else NO_DHCP
        self.port = {"id": uuidutils.generate_uuid(), "network_id": uuidutils.generate_uuid(), "device_owner": device}
        self.backend = IpamPluggableBackend()

    def allocate(self, context, driver, owner, wanted):
        results = self.results(context, driver, self.port, [self.fixed_ip(request) for request in wanted])
        granted = dict(zip(named_first(wanted), results))
        return [granted[i] for i in range(len(wanted))]

    def next(self, context, driver, subnet_ids):
        port = {**self.port, "device_owner": constants.DEVICE_OWNER_DHCP}
        return self.results(context, driver, port, [[{"subnet_id": subnet_id} for subnet_id in subnet_ids]])[0]

    def results(self, context, driver, port, ips):
        allocated = self.backend._ipam_allocate_ips(context, driver, port, ips)
        return [(ip["ip_address"], ip["subnet_id"]) for ip in allocated]

    def fixed_ip(self, wanted):
        """A request as Neutron writes it: the address with its subnet, or all subnets that will do."""
        if wanted.address is not None:
            return {"subnet_id": wanted.subnet_id, "ip_address": str(wanted.address)}
        return [{"subnet_id": subnet_id} for subnet_id in wanted.pool.subnet_ids]

    def release(self, context, driver, holdings):
        ips = [{"subnet_id": holding.subnet_id, "ip_address": holding.address} for holding in holdings]
        self.backend._ipam_deallocate_ips(context, driver, self.port, ips)
