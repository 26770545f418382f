"""Starts as much of Neutron as its IPAM needs: options, a database on a file, tables, and a core plugin.

A Neutron server brings all of this along. Here are no API, no message bus and no agents.
"""
import os
from typing import NamedTuple

import netaddr
from neutron.conf import common
from neutron.ipam.drivers.neutrondb_ipam import db_models
from neutron_lib import context as contexts
from neutron_lib import exceptions
from neutron_lib.db import api, model_base
from neutron_lib.plugins import constants, directory
from oslo_config import cfg
from oslo_db import options
from oslo_utils import importutils

import record

MODELS = db_models.IpamSubnet, db_models.IpamAllocationPool, db_models.IpamAllocation


class Subnet(NamedTuple):
    """A subnet as the core plugin knows it, as far as an IPAM driver asks."""
    cidr: netaddr.IPNetwork
    gateway_ip: str | None
    project_id: str


class CorePlugin:
    """Whom the driver asks for a subnet's prefix and gateway, which Neutron keeps apart from IPAM."""

    def _get_subnet_object(self, context, subnet_id):
        row = record.find_subnet(context, subnet_id)
        if row is None:
            raise exceptions.SubnetNotFound(subnet_id=subnet_id)
        return Subnet(netaddr.IPNetwork(row.cidr), row.gateway_ip, row.pool)


def start(folder, driver):
    """Neutron on a database in this folder. Returns the driver's class; `driver` names it, as MODULE:CLASS."""
    path = driver.replace(":", ".")
    cfg.CONF([], project="neutron", default_config_files=[])  # whatever this machine's own Neutron is told to do
    cfg.CONF.register_opts(common.core_opts)
    cfg.CONF.set_override("ipam_driver", path)
    options.set_defaults(cfg.CONF, connection="sqlite:///" + os.path.join(folder, "neutron.sqlite"))
    directory.add_plugin(constants.CORE, CorePlugin())
    create_tables()
    return importutils.import_class(path)


def create_tables():
    context = contexts.get_admin_context()
    with api.CONTEXT_WRITER.using(context):
        connection = context.session.connection()
        model_base.BASEV2.metadata.create_all(connection, tables=[model.__table__ for model in MODELS])
        record.METADATA.create_all(connection)
