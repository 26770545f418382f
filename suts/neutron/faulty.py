"""Drivers with one fault each, for `--driver faulty:CLASS`: they show that a scenario would notice. And one that is
better than Neutron's, to show that what Neutron's fails on can be passed.
"""
import random

import netaddr
from neutron.ipam import exceptions as ipam
from neutron.ipam.drivers.neutrondb_ipam.driver import NeutronDbPool, NeutronDbSubnet
from neutron.ipam.subnet_alloc import IpamSubnetGroup
from neutron_lib import exceptions
from neutron_lib.plugins import directory

from rollback import FailingPool


class SwallowingGroup(IpamSubnetGroup):
    def allocate(self, request):
        try:
            return super().allocate(request)
        except Exception:
            raise ipam.IpAddressGenerationFailureAllSubnets()


class SwallowingPool(FailingPool):
    """Catches everything, and always tells the same."""

    def get_allocator(self, subnet_ids):
        return SwallowingGroup(self, subnet_ids)


class TalkativeGroup(IpamSubnetGroup):
    def allocate(self, request):
        try:
            return super().allocate(request)
        except exceptions.NeutronException as error:
            error.msg += " [SQL: INSERT INTO ipamallocations (ip_address, status, ipam_subnet_id) VALUES (?, ?, ?)]"
            raise


class TalkativePool(NeutronDbPool):
    """Tells callers what it asked the database."""

    def get_allocator(self, subnet_ids):
        return TalkativeGroup(self, subnet_ids)


class CommittingGroup(IpamSubnetGroup):
    def allocate(self, request):
        granted = super().allocate(request)
        self._driver._context.session.commit()
        return granted


class CommittingPool(NeutronDbPool):
    """Makes each change last at once, whatever else belongs to the caller's transaction."""

    def get_allocator(self, subnet_ids):
        return CommittingGroup(self, subnet_ids)


class InterpolatingPool(NeutronDbPool):
    """Writes a text that users choose into its SQL."""

    def remove_subnet(self, subnet_id):
        project = directory.get_plugin()._get_subnet_object(self._context, subnet_id).project_id
        subnets = f"SELECT id FROM poolproof_subnets WHERE pool = '{project}'"
        connection = self._context.session.connection()
        connection.exec_driver_sql(f"DELETE FROM ipamsubnets WHERE neutron_subnet_id IN ({subnets})")


class NeverUndonePool(FailingPool):
    """Says that the database undoes what it did, which no database knows of."""

    def needs_rollback(self):
        return False


class CrashingGroup(IpamSubnetGroup):
    def allocate(self, request):
        return 1 / 0


class CrashingPool(NeutronDbPool):
    """Raises what nobody expects."""

    def get_allocator(self, subnet_ids):
        return CrashingGroup(self, subnet_ids)


class FairSubnet(NeutronDbSubnet):
    def _generate_ips(self, context, prefer_next=False, num_addresses=1):
        pools = [netaddr.IPRange(pool.first_ip, pool.last_ip) for pool in self.subnet_manager.list_pools(context)]
        held = {row.ip_address for row in self.subnet_manager.list_allocations(context)}
        chosen = set()
        while len(chosen) < num_addresses:
            if len(held) >= sum(pool.size for pool in pools):
                raise ipam.IpAddressGenerationFailure(subnet_id=self._subnet_id)
            address = self.draw(pools)
            if address not in held:
                held.add(address)
                chosen.add(str(address))
        return list(chosen)

    def draw(self, pools):
        source = random.SystemRandom()
        pool = source.choices(pools, [pool.size for pool in pools])[0]
        return netaddr.IPAddress(pool.first + source.randrange(pool.size), pool.version)


class FairPool(NeutronDbPool):
    """Chooses among all addresses, with the generator of the operating system."""

    def get_subnet(self, subnet_id):
        return FairSubnet.load(subnet_id, self._context)
