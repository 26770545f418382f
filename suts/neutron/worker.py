#!/usr/bin/env python3
"""Puts an IPAM driver of OpenStack Neutron under test: answers Poolproof's protocol by calls on the driver.

    poolproof check --sut 'stdio:suts/neutron/venv/bin/python suts/neutron/worker.py'

Here are the command line, the contract and `initialize`. The other calls go to `methods.py`: `bootstrap.py` starts
Neutron, `mapping.py` translates, `backends.py` has the ways to the driver, and `record.py` remembers what Neutron keeps
outside IPAM. Each call is a transaction of Neutron's; what is refused is rolled back by Neutron.
"""
import argparse
import os
import pathlib
import sys
import warnings
from importlib.metadata import version
from threading import Event, Thread

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "python"))  # protocol.py and pools.py

from protocol import VERSION, Refusal, Server, read_whole

METHODS = ["reset", "pool.update", "pool.delete", "release", "release_owner", "list", "usage"]
TRANSACTIONS = ["begin", "commit", "rollback"]
DRIVER = "neutron.ipam.drivers.neutrondb_ipam.driver:NeutronDbPool"
FAILING_DRIVER = "rollback:FailingPool"
PATIENCE = 4  # seconds; the first answer is due after 5


class Worker:
    """Answers `initialize` itself, whether Neutron is there yet or not, and hands on the rest."""

    def __init__(self, options):
        self.options, self.contract = options, contract(options)
        self.names = ["initialize", "allocate", "pool.create", *self.contract["methods"]]
        self.methods, self.is_loaded = None, Event()
        # A daemon, because Python waits for ever for a thread that has imported eventlet, as Neutron does.
        Thread(target=self.load, daemon=True).start()

    def load(self):
        """Neutron takes a second or two to load, and on a busy machine longer than `initialize` may take."""
        warnings.simplefilter("ignore")  # its libraries announce what they will drop, on stderr and at each start
        try:
            from methods import Methods
            self.methods = Methods(self.options)
        finally:
            self.is_loaded.set()

    def call(self, name, params):
        if name not in self.names:
            raise Refusal("unsupported", "this method is not offered")
        if name == "initialize":
            return self.initialize(params)
        self.is_loaded.wait()
        if self.methods is None:
            sys.exit("Neutron could not be loaded, for the reason above")
        return self.methods.call(name.replace(".", "_"), params)

    def initialize(self, params):
        if read_whole(params.get("protocol"), 0) != VERSION:
            raise Refusal("unsupported", "this is protocol version 1")
        self.is_loaded.wait(PATIENCE)  # so that no later call has the loading in it, if that can be
        return {"name": "neutron", "version": version("neutron"), "contract": self.contract}

    def close(self):
        self.is_loaded.wait()
        if self.methods:
            self.methods.close()


# Command line

def parser():
    made, switch = argparse.ArgumentParser(description=__doc__.splitlines()[0]), argparse.BooleanOptionalAction
    made.add_argument("--driver", metavar="MODULE:CLASS",
                      help=f"a class that is a neutron.ipam.driver.Pool, in place of Neutron's own, {DRIVER}")
    made.add_argument("--backend", choices=["direct", "pluggable"], default="direct",
                      help="call the driver, or Neutron's pluggable back end, which calls it")
    made.add_argument("--any", choices=["any", "preferred-next", "automatic"], default="any",
                      help="class of a request for any address; automatic: EUI-64 in IPv6 prefixes up to /64")
    made.add_argument("--subnets-per-pool", type=int, default=1, metavar="N",
                      help="make a pool of so many subnets, between which an allocator chooses")
    made.add_argument("--fail-at", type=int, metavar="K", help="take a driver whose state is no part of Neutron's "
                      "transaction, and which fails at each K-th allocation")
    made.add_argument("--fail-undo", action=switch, default=False, help="take such a driver, which fails once when "
                      "after a failed allocation others are given back")
    made.add_argument("--workarounds", action=switch, default=True,
                      help="step around what is known to be wrong in Neutron 29.0.0; without, it shows")
    made.add_argument("--unpredictable", action=switch, default=False,
                      help="promise that addresses are chosen at random")
    made.add_argument("--durable", action=switch, default=True,
                      help="promise to survive restarts; each takes a second or two")
    made.add_argument("--transactions", action=switch, default=True,
                      help="offer transactions of several calls; without, for drivers that keep their state elsewhere")
    return made


def read_options(arguments=None):
    made = parser()
    options = made.parse_args(arguments)
    options.fails = options.fail_at is not None or options.fail_undo
    options.driver = options.driver or (FAILING_DRIVER if options.fails else DRIVER)
    if options.subnets_per_pool < 1 or (options.fail_at is not None and options.fail_at < 1):
        made.error("N and K are 1 or more")
    if options.backend == "direct" and options.fails:
        made.error("a driver that fails needs --backend pluggable: there is nobody else to undo")
    if options.backend == "pluggable" and options.any == "automatic":
        made.error("--any automatic needs --backend direct")
    options.folder = os.environ.get("POOLPROOF_STATE_DIR") or made.error("POOLPROOF_STATE_DIR is not set")
    return options


def contract(options):
    """What is promised. The driver that fails has its state in memory, which is no part of any transaction."""
    return {"methods": METHODS + TRANSACTIONS if options.transactions and not options.fails else METHODS,
            "families": ["ipv6"] if options.any == "automatic" else ["ipv4", "ipv6"],
            "durable": options.durable and not options.fails,
            "complete": options.any != "automatic",  # one address for each owner, and no other
            "disjoint_pools": False,  # the driver leaves that to the network, which it does not know
            "unpredictable": options.unpredictable,
            "timeout_ms": 30_000}  # the first call may have to wait for Neutron


if __name__ == "__main__":
    Server(Worker(read_options())).run()
