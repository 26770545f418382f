"""What Neutron keeps outside IPAM, and the worker in its place: subnets, and whose port has which address.

Two tables in the same database, written in the same transaction, as Neutron writes `subnets` and `ipallocations`.
Values are bound parameters, and text is compared byte by byte.
"""
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

METADATA = sa.MetaData()
SUBNETS = sa.Table(
    "poolproof_subnets", METADATA,
    sa.Column("position", sa.Integer, primary_key=True),  # which part of the pool this is follows from the order
    sa.Column("id", sa.String, unique=True, nullable=False),
    sa.Column("pool", sa.String, index=True, nullable=False),
    sa.Column("cidr", sa.String, nullable=False),
    sa.Column("gateway_ip", sa.String))
HOLDERS = sa.Table(
    "poolproof_holders", METADATA,
    sa.Column("subnet_id", sa.String, sa.ForeignKey(SUBNETS.c.id), primary_key=True),
    sa.Column("address", sa.String, primary_key=True),
    sa.Column("owner", sa.String, index=True, nullable=False))

# Made once, for making them takes longer than the database does with them.
SUBNET_BY_ID = sa.select(SUBNETS).where(SUBNETS.c.id == bindparam("subnet"))
SUBNETS_BY_POOL = sa.select(SUBNETS).where(SUBNETS.c.pool == bindparam("pool")).order_by(SUBNETS.c.position)
POOL_NAMES = sa.select(SUBNETS.c.pool).distinct()
ADD_SUBNET = sa.insert(SUBNETS)
SET_GATEWAY = sa.update(SUBNETS).where(SUBNETS.c.id == bindparam("subnet")).values(gateway_ip=bindparam("gateway"))
REMOVE_SUBNET = sa.delete(SUBNETS).where(SUBNETS.c.id == bindparam("subnet"))
HOLDINGS = sa.select(SUBNETS.c.pool, HOLDERS).join_from(HOLDERS, SUBNETS)
HOLDING_AT = HOLDINGS.where(SUBNETS.c.pool == bindparam("pool"), HOLDERS.c.address == bindparam("at"))
HOLDINGS_OF = HOLDINGS.where(HOLDERS.c.owner == bindparam("of"))
HOLDINGS_IN = HOLDINGS.where(HOLDERS.c.subnet_id == bindparam("subnet"))
HOLD = sa.insert(HOLDERS)
DROP = sa.delete(HOLDERS).where(HOLDERS.c.subnet_id == bindparam("subnet"), HOLDERS.c.address == bindparam("at"))
DROP_ALL = sa.delete(HOLDERS).where(HOLDERS.c.subnet_id == bindparam("subnet"))


class Pool(NamedTuple):
    """A pool of the protocol: one or several subnets of Neutron."""
    name: str
    cidr: str
    subnet_ids: tuple


class Holding(NamedTuple):
    """An address that somebody holds."""
    pool: str
    subnet_id: str
    address: str
    owner: str


def execute(context, statement, values=None):
    return context.session.connection().execute(statement, values)


# Subnets. Between calls that change them they are remembered: each call asks for some, and the driver once more.

REMEMBERED = {}


def forget():
    """After a call that changes pools, and after a rollback."""
    REMEMBERED.clear()


def remembered(key, load):
    found = REMEMBERED.get(key) or load()
    if found:
        REMEMBERED[key] = found
    return found


def find_subnet(context, subnet_id):
    return remembered(subnet_id, lambda: execute(context, SUBNET_BY_ID, {"subnet": subnet_id}).first())


def find_pool(context, name):
    """The pool of this name, or None."""
    return remembered((name,), lambda: load_pool(context, name))


def load_pool(context, name):
    rows = execute(context, SUBNETS_BY_POOL, {"pool": name}).all()
    return Pool(name, rows[0].cidr, tuple(row.id for row in rows)) if rows else None


def all_pools(context):
    return [find_pool(context, row.pool) for row in execute(context, POOL_NAMES).all()]


def add_subnet(context, subnet_id, pool, cidr, gateway_ip):
    execute(context, ADD_SUBNET, {"id": subnet_id, "pool": pool, "cidr": cidr, "gateway_ip": gateway_ip})


def set_gateway(context, subnet_id, gateway_ip):
    execute(context, SET_GATEWAY, {"subnet": subnet_id, "gateway": gateway_ip})


def remove_subnet(context, subnet_id):
    execute(context, DROP_ALL, {"subnet": subnet_id})
    execute(context, REMOVE_SUBNET, {"subnet": subnet_id})


# Holders

def hold(context, owner, granted):
    """Notes the owner of each (address, subnet)."""
    execute(context, HOLD, [{"subnet_id": subnet_id, "address": str(address), "owner": owner}
                            for address, subnet_id in granted])


def drop(context, holdings):
    if holdings:
        execute(context, DROP, [{"subnet": holding.subnet_id, "at": holding.address} for holding in holdings])


def find_holding(context, pool, address):
    row = execute(context, HOLDING_AT, {"pool": pool, "at": address}).first()
    return row and Holding(*row)


def holdings_of(context, owner):
    return [Holding(*row) for row in execute(context, HOLDINGS_OF, {"of": owner})]


def holdings_in(context, subnet_id):
    return [Holding(*row) for row in execute(context, HOLDINGS_IN, {"subnet": subnet_id})]
