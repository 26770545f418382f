"""The protocol's methods by calls on a driver.

The driver's are: which address is handed out, that none is handed out twice, allocation pools, exhaustion, and what
is on the disk. The worker's own are what Neutron decides elsewhere: whether names and owners fit, whether a pool is in
use, and that an address asked for by name lies in an allocation pool, which Neutron leaves open on purpose. A pool's
name goes along as the project of its subnets: a text that users choose.
"""
import contextlib
import traceback

import netaddr
from neutron.ipam import requests
from neutron_lib import context as contexts
from neutron_lib.db import api
from oslo_utils import uuidutils

import bootstrap
import mapping
import record
from backends import Direct, Pluggable, Wanted, may_hand_out
from protocol import Refusal, invalid, read_list, read_name, read_prefix, without_nulls
from rollback import Faults

KEEPING_POOLS = ["allocate", "release", "release_owner", "list", "usage"]
NOBODY = "(nobody)"  # shown as the owner of what the driver holds for no port: a leak
SAVEPOINT = api.CONTEXT_WRITER.savepoint


class Methods:
    def __init__(self, options):
        self.driver_class = bootstrap.start(options.folder, options.driver)
        Faults.fail_at, Faults.fail_undo = options.fail_at, options.fail_undo
        self.backend = {"direct": Direct, "pluggable": Pluggable}[options.backend](options.any)
        self.subnets_per_pool = options.subnets_per_pool
        self.works_around = options.workarounds
        self.open = None  # the transaction between `begin` and its end
        self.renew()

    # Calls

    def renew(self):
        """A context of Neutron and a driver in it, which last for one transaction, as for one request to Neutron."""
        self.context = contexts.get_admin_context()
        self.driver = self.driver_class(None, self.context)

    def call(self, method, params):
        """One call, or the refusal that what Neutron raises comes to."""
        try:
            if method in ("reset", "begin", "commit", "rollback"):
                return getattr(self, method)(params)
            with self.transaction():
                return getattr(self, method)(params)
        except Refusal:
            raise
        except Exception as error:
            refusal = mapping.refusal(error)
            if refusal.kind in ("internal", "storage"):
                traceback.print_exc()  # the harness shows stderr beside a violation
            raise refusal from error
        finally:
            if method not in KEEPING_POOLS:
                record.forget()

    @contextlib.contextmanager
    def transaction(self):
        """Of a call: a transaction of its own, or a savepoint in the open one."""
        if self.open:
            with SAVEPOINT.using(self.context):
                yield
            return
        self.renew()
        with api.CONTEXT_WRITER.using(self.context):
            yield

    def begin(self, params):
        if self.open:
            raise invalid("a transaction is open")
        self.renew()
        opened = api.CONTEXT_WRITER.using(self.context)
        opened.__enter__()
        self.open = opened
        return {}

    def commit(self, params):
        if not self.open:
            raise invalid("no transaction is open")
        opened, self.open = self.open, None
        opened.__exit__(None, None, None)
        return {}

    def rollback(self, params):
        if self.open:
            self.context.session.rollback()
        return self.commit(params)  # of nothing, now

    def reset(self, params):
        if self.open:
            self.rollback(params)
        with self.transaction():
            for pool in record.all_pools(self.context):
                self.remove(pool)
        return {}

    def close(self):
        if self.open:
            self.rollback({})

    # Pools

    def pool_create(self, params):
        name, prefix = read_name(params.get("pool")), mapping.checked_prefix(params.get("prefix"), self.works_around)
        settings = mapping.checked_settings(params, prefix)
        if record.find_pool(self.context, name):
            raise Refusal("conflict", "there is a pool of that name")
        for part in mapping.parts(prefix, self.subnets_per_pool):
            self.create_subnet(name, prefix, settings, part)
        return {}

    def create_subnet(self, name, prefix, settings, part):
        subnet_id = uuidutils.generate_uuid()
        cidr, gateway_ip = mapping.cidr(prefix), mapping.gateway_ip(prefix, settings, self.works_around)
        record.add_subnet(self.context, subnet_id, name, cidr, gateway_ip)
        pools = None if self.are_default(prefix, settings) else mapping.allocation_pools(prefix, settings, part)
        request = requests.SpecificSubnetRequest(name, subnet_id, cidr, gateway_ip, pools)
        self.driver.allocate_subnet(request)
        if pools == [] and self.works_around:
            # Neutron 29.0.0 takes no allocation pools for the default ones when a subnet is made, and only then.
            self.driver.update_subnet(request)

    def are_default(self, prefix, settings):
        """Does Neutron choose the allocation pools? Where nothing is said of them. But of the longest prefixes it would
        hand out the gateway of a /128, and not the first address of a /127."""
        says_nothing = self.subnets_per_pool == 1 and not settings.ranges and not settings.exclusions
        knows_gateway = settings.gateway is None or mapping.gateway_ip(prefix, settings, self.works_around)
        return says_nothing and knows_gateway and (mapping.has_edges(prefix) or not self.works_around)

    def pool_update(self, params):
        pool = self.find_pool(params)
        prefix = read_prefix(pool.cidr)
        settings = mapping.checked_settings(params, prefix)
        gateway_ip = mapping.gateway_ip(prefix, settings, self.works_around)
        parts = mapping.parts(prefix, self.subnets_per_pool)
        updated = {subnet_id: mapping.allocation_pools(prefix, settings, part)
                   for subnet_id, part in zip(pool.subnet_ids, parts)}
        self.check_in_use(updated)
        for subnet_id, pools in updated.items():
            record.set_gateway(self.context, subnet_id, gateway_ip)
            request = requests.SpecificSubnetRequest(pool.name, subnet_id, pool.cidr, gateway_ip, pools)
            self.driver.update_subnet(request)
        return {}

    def check_in_use(self, updated):
        """Neutron would leave outside what then is outside."""
        for subnet_id, pools in updated.items():
            for held in map(netaddr.IPAddress, self.held(subnet_id)):
                if not any(held in span for span in pools):
                    raise Refusal("in_use", "an allocation would fall outside")

    def pool_delete(self, params):
        pool = self.find_pool(params)
        if any(self.held(subnet_id) for subnet_id in pool.subnet_ids):
            raise Refusal("in_use", "the pool has allocations")
        self.remove(pool)
        return {}

    def remove(self, pool):
        for subnet_id in pool.subnet_ids:
            self.driver.remove_subnet(subnet_id)
            record.remove_subnet(self.context, subnet_id)

    def find_pool(self, params):
        pool = record.find_pool(self.context, read_name(params.get("pool")))
        if pool is None:
            raise Refusal("not_found", "there is no such pool")
        return pool

    # Addresses

    def allocate(self, params):
        owner = read_name(params.get("owner"))
        wanted = [self.read_request(without_nulls(request)) for request in read_list(params.get("requests"), dict)]
        if not wanted:
            raise invalid("there are no requests")
        granted = {i: self.first_of_all(wanted[i]) for i in range(len(wanted)) if self.is_misjudged(wanted[i])}
        others = [i for i in range(len(wanted)) if i not in granted]
        if others:
            rest = [wanted[i] for i in others]
            granted.update(zip(others, self.backend.allocate(self.context, self.driver, owner, rest)))
        record.hold(self.context, owner, granted.values())
        return {"granted": [str(granted[i][0]) for i in range(len(wanted))]}

    def read_request(self, request):
        if "prefix_len" in request:
            raise Refusal("unsupported", "blocks are not offered")
        pool = self.find_pool(request)
        if "address" not in request:
            return Wanted(pool, None, None)
        address = requests.SpecificAddressRequest(mapping.checked_address(request["address"])).address
        parts = mapping.parts(read_prefix(pool.cidr), self.subnets_per_pool)
        inside = [first <= int(address) <= last for first, last in parts]
        subnet_id = pool.subnet_ids[inside.index(True) if any(inside) else 0]
        if not may_hand_out(self.driver.get_subnet(subnet_id), address):
            raise invalid("this address is not handed out")  # Neutron would: pools only limit what is asked for as any
        return Wanted(pool, address, subnet_id)

    def is_misjudged(self, wanted):
        """Neutron 29.0.0 takes the first address of an IPv4 /31 or /32 for a network address when it is named, and
        hands it out when any is asked for."""
        net = netaddr.IPNetwork(wanted.pool.cidr)
        return (self.works_around and net.version == 4 and net.prefixlen > 30 and wanted.address == net.network
                and not self.driver.needs_rollback()
                and not record.find_holding(self.context, wanted.pool.name, str(wanted.address)))

    def first_of_all(self, wanted):
        """As the lowest one, a misjudged address is the next; but not twice in a call."""
        granted = self.backend.next(self.context, self.driver, [wanted.subnet_id])
        if netaddr.IPAddress(granted[0]) != wanted.address:
            raise Refusal("conflict", "this address is taken")
        return granted

    def release(self, params):
        pool, owner = self.find_pool(params), read_name(params.get("owner"))
        text = mapping.checked_address(params.get("address"))
        holding = record.find_holding(self.context, pool.name, str(netaddr.IPAddress(text)))
        if holding is None:
            raise Refusal("not_found", "nobody holds that")
        if holding.owner != owner:
            raise Refusal("not_owner", "somebody else holds that")
        # Neutron 29.0.0 looks for the text as it comes, and does not say that it found nothing.
        spelled = holding if self.works_around else holding._replace(address=text)
        self.backend.release(self.context, self.driver, [spelled])
        record.drop(self.context, [holding])
        return {}

    def release_owner(self, params):
        holdings = record.holdings_of(self.context, read_name(params.get("owner")))
        self.backend.release(self.context, self.driver, holdings)
        record.drop(self.context, holdings)
        return {"released": [{"pool": holding.pool, "address": holding.address} for holding in holdings]}

    # Reading

    def held(self, subnet_id):
        """What the driver holds in this subnet. The abstract interface has no such question: of a driver that does not
        answer it either way, the worker's own record must do."""
        subnet = self.driver.get_subnet(subnet_id)
        if hasattr(subnet, "subnet_manager"):
            return [str(row.ip_address) for row in subnet.subnet_manager.list_allocations(self.context)]
        if hasattr(subnet, "held"):
            return subnet.held()
        return [holding.address for holding in record.holdings_in(self.context, subnet_id)]

    def list(self, params):
        pools = [self.find_pool(params)] if "pool" in params else record.all_pools(self.context)
        return {"allocations": [entry for pool in pools for subnet_id in pool.subnet_ids
                                for entry in self.entries(pool, subnet_id)]}

    def entries(self, pool, subnet_id):
        owners = {holding.address: holding.owner for holding in record.holdings_in(self.context, subnet_id)}
        return [{"pool": pool.name, "address": address, "owner": owners.get(address, NOBODY)}
                for address in self.held(subnet_id)]

    def usage(self, params):
        pool = self.find_pool(params)
        details = [self.driver.get_subnet(subnet_id).get_details() for subnet_id in pool.subnet_ids]
        allocatable = sum(span.size for detail in details for span in detail.allocation_pools)
        allocated = sum(len(self.held(subnet_id)) for subnet_id in pool.subnet_ids)
        return {"allocatable": str(allocatable), "allocated": str(allocated)}
