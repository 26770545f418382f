"""A driver as of an IPAM server elsewhere, one that fails when it is told to.

Its state is no part of Neutron's transaction, so nothing is undone by the database, and `needs_rollback` says so:
undoing is up to Neutron's pluggable back end (`neutron/db/ipam_pluggable_backend.py`), which is under test here.

    worker.py --backend pluggable --fail-at K   each K-th allocation fails: the server does not answer
    worker.py --backend pluggable --fail-undo   after a failed allocation, whatever its cause, the first attempt to give
                                                something back fails, too, and then all is well again
"""
import netaddr
from neutron.ipam import driver, requests, subnet_alloc, utils
from neutron.ipam import exceptions as ipam
from neutron_lib import exceptions


class Unreachable(exceptions.ServiceUnavailable):
    message = "The IPAM server does not answer."


class UndoFailed(exceptions.NeutronException):
    """Of another class than what it follows: should it ever reach a caller, the first cause is lost."""
    message = "The IPAM server does not answer, and that while something was undone."


class Faults:
    """When to fail. One for the process, as there is one server."""
    fail_at, fail_undo = None, False
    allocations = 0  # since the server was empty, so that a scenario meets the same faults each time


class Subnet(driver.Subnet):
    """What the server knows of a subnet."""

    def __init__(self, request):
        self.addresses = set()
        self.update(request)

    def update(self, request):
        self.request = request
        if request.allocation_pools is None:
            pools = utils.generate_pools(request.subnet_cidr, request.gateway_ip)
            self.request = requests.SpecificSubnetRequest(
                request.project_id, request.subnet_id, request.subnet_cidr, request.gateway_ip, pools)

    def get_details(self):
        return self.request

    def held(self):
        return [str(address) for address in self.addresses]

    def allocate(self, request):
        is_named = isinstance(request, requests.SpecificAddressRequest)
        address = request.address if is_named else self.lowest()
        if address in self.addresses:
            raise ipam.IpAddressAlreadyAllocated(subnet_id=self.request.subnet_id, ip=address)
        self.addresses.add(address)
        return str(address)

    def lowest(self):
        for pool in self.request.allocation_pools:
            for number in range(pool.first, pool.last + 1):
                address = netaddr.IPAddress(number, pool.version)
                if address not in self.addresses:
                    return address
        raise ipam.IpAddressGenerationFailure(subnet_id=self.request.subnet_id)

    def deallocate(self, address):
        self.addresses.remove(netaddr.IPAddress(address))


class FailingSubnet(driver.Subnet):
    """A subnet of the server over a line that fails."""

    def __init__(self, subnet, line):
        self.subnet, self.line = subnet, line

    def allocate(self, request):
        try:
            self.line.before_allocation()
            return self.subnet.allocate(request)
        except Exception:
            self.line.has_failed = True
            raise

    def deallocate(self, address):
        self.line.before_deallocation()
        self.subnet.deallocate(address)

    def get_details(self):
        return self.subnet.get_details()

    def held(self):
        return self.subnet.held()


class FailingPool(subnet_alloc.SubnetAllocator):
    """The driver. Neutron makes one for each request, so after a failure it is only asked to undo."""

    subnets = {}  # of the server

    def __init__(self, subnetpool, context):
        super().__init__(subnetpool, context)
        self.has_failed = False

    def before_allocation(self):
        Faults.allocations += 1
        if Faults.fail_at and Faults.allocations % Faults.fail_at == 0:
            raise Unreachable()

    def before_deallocation(self):
        """After a failure all that is given back is given back to undo."""
        if self.has_failed and Faults.fail_undo:
            self.has_failed = False
            raise UndoFailed()

    def allocate_subnet(self, request):
        self.subnets[request.subnet_id] = Subnet(request)
        return self.get_subnet(request.subnet_id)

    def get_subnet(self, subnet_id):
        return FailingSubnet(self.find(subnet_id), self)

    def update_subnet(self, request):
        self.find(request.subnet_id).update(request)
        return self.get_subnet(request.subnet_id)

    def remove_subnet(self, subnet_id):
        self.find(subnet_id)
        del self.subnets[subnet_id]
        if not self.subnets:
            Faults.allocations = 0

    def find(self, subnet_id):
        if subnet_id not in self.subnets:
            raise exceptions.SubnetNotFound(subnet_id=subnet_id)
        return self.subnets[subnet_id]

    def needs_rollback(self):
        return True
