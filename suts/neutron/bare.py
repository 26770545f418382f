#!/usr/bin/env python3
"""How fast is Neutron without harness, protocol and record? The same calls on the driver, in a loop.

    S='suts/neutron/venv/bin/python suts/neutron/worker.py --no-durable --no-transactions --any preferred-next'
    poolproof check --sut "stdio:sh -c 'tee LOG | $S'" --seed 1 --runs 40
    suts/neutron/venv/bin/python -W ignore suts/neutron/bare.py LOG

First the requests in the log go to the worker's methods, and what these call on the driver is noted. The notes are the
loop: one transaction a request, on an empty database, with subnets known from a dictionary. Addresses are handed out in
order, so that each run hands out the same.
"""
import json
import os
import pathlib
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "python"))  # protocol.py and pools.py

from neutron.ipam import driver
from neutron_lib import context as contexts
from neutron_lib.db import api
from neutron_lib.plugins import constants, directory

import bootstrap
from methods import Methods
from protocol import Refusal, without_nulls
from worker import METHODS, read_options

CALLS = ["pool.create", "allocate", *METHODS]
CONTEXT = object()  # stands for the context of a transaction


class Noted:
    """The driver, or something it returned, whose calls are noted as (what it is called on, name, arguments)."""

    def __init__(self, inner, place, notes):
        self.inner, self.place, self.notes = inner, place, notes

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if name == "subnet_manager":
            return Noted(found, (*self.place, name), self.notes)
        return self.noting(name, found) if callable(found) else found

    def noting(self, name, found):
        def call(*arguments):
            shown = [CONTEXT if isinstance(one, contexts.Context) else one for one in arguments]
            self.notes.append((self.place, name, shown))
            place = (len(self.notes) - 1,)
            result = found(*arguments)
            is_driver_s = isinstance(result, (driver.Subnet, driver.SubnetGroup))
            return Noted(result, place, self.notes) if is_driver_s else result
        return call


class Noting(Methods):
    def renew(self):
        super().renew()
        self.notes = []
        self.driver = Noted(self.driver, (), self.notes)

    def note(self, call):
        """What this call asks of the driver, and whether it is done."""
        self.notes = []  # of a call that is refused before it has a transaction
        try:
            self.call(call["method"].replace(".", "_"), without_nulls(call.get("params") or {}))
            return self.notes, True
        except Refusal:
            return self.notes, False


class CorePlugin(dict):
    """Subnets by their ids, for the driver to ask."""

    def _get_subnet_object(self, context, subnet_id):
        return self[subnet_id]


class Undone(Exception):
    """Ends a transaction where a refusal did."""


def read_log(path):
    for line in pathlib.Path(path).read_bytes().splitlines():
        try:
            call = json.loads(line)
        except ValueError:
            continue
        if isinstance(call, dict) and call.get("method") in CALLS and isinstance(call.get("params"), dict):
            yield call


def subnets(noted):
    """Every subnet that is ever made, as the core plugin would know it."""
    made = (arguments[0] for notes, _ in noted for _, name, arguments in notes if name == "allocate_subnet")
    return {request.subnet_id: bootstrap.Subnet(request.subnet_cidr, request.gateway_ip, request.project_id)
            for request in made}


def repeat(driver_class, notes, is_done):
    context = contexts.get_admin_context()
    results = [driver_class(None, context)]
    try:
        with api.CONTEXT_WRITER.using(context):
            for place, name, arguments in notes:
                arguments = [context if one is CONTEXT else one for one in arguments]
                results.append(getattr(target(results, *place), name)(*arguments))
            if not is_done:
                raise Undone
    except Exception:
        if is_done:
            raise


def target(results, at=-1, attribute=None):
    """The driver, or what it returned to an earlier call, or an attribute of that."""
    found = results[at + 1]
    return getattr(found, attribute) if attribute else found


def main(path):
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POOLPROOF_STATE_DIR"] = folder
        methods = Noting(read_options(["--any", "preferred-next"]))
        noted = [methods.note(call) for call in read_log(path)]
        methods.call("reset", {})
        plugin = CorePlugin(subnets(noted))
        directory.add_plugin(constants.CORE, plugin)
        started, worked = time.perf_counter(), time.process_time()
        for notes, is_done in noted:
            repeat(methods.driver_class, notes, is_done)
        seconds, processor = time.perf_counter() - started, time.process_time() - worked
    count = sum(len(notes) for notes, _ in noted)
    print(f"{len(noted)} requests, {count} calls on the driver: {len(noted) / seconds:.0f} requests/s, "
          f"{processor / len(noted) * 1000:.2f} ms of the processor each")


if __name__ == "__main__":
    main(*sys.argv[1:])
