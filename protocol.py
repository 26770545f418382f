"""The wire side of a SUT: strict reading of fields, and one answer a line for one request a line.

Everything that Python's own parsers accept but the protocol refuses (booleans as integers, NaN, netmasks, zone
identifiers, unpaired surrogates) is stopped here, so that the allocator only ever sees clean values.
"""
import ipaddress
import json
import sys
from typing import NamedTuple

VERSION = 1
MAX_TIME = 10**40
ADDRESS_TYPES = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}
BITS = {4: 32, 6: 128}


class Refusal(Exception):
    """An answer that says no. The message is for people: it never quotes what callers or the system sent."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def invalid(message):
    return Refusal("invalid", message)


class Prefix(NamedTuple):
    version: int
    first: int
    length: int

    @property
    def last(self):
        return self.first + (1 << BITS[self.version] - self.length) - 1

    def overlaps(self, other):
        return self.version == other.version and self.first <= other.last and other.first <= self.last


def read_name(value):
    """Owners and pools: UTF-8 of 1 to 255 bytes without NUL; every other character is data."""
    if not isinstance(value, str):
        raise invalid("a name is a string")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise invalid("a name is UTF-8") from None
    if not 1 <= size <= 255 or "\0" in value:
        raise invalid("a name has 1 to 255 bytes and no NUL")
    return value


def read_whole(value, least, most=MAX_TIME):
    if type(value) is not int or not least <= value <= most:
        raise invalid("a number is missing, not whole, or out of its bounds")
    return value


def read_list(value, of):
    """A list whose items have the type `of`; absent is the same as empty."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, of) for item in value):
        raise invalid("a list or one of its items has the wrong type")
    return value


def read_address(text, version=None):
    """The address's version and number. With a version given, the other family is refused."""
    if not isinstance(text, str) or "%" in text:
        raise invalid("an address is a string without a zone")
    try:
        address = ADDRESS_TYPES[version or (6 if ":" in text else 4)](text)
    except ValueError:
        raise invalid("that is no address of this family") from None
    return address.version, int(address)


def read_length(text, version):
    if not text.isascii() or not text.isdigit() or len(text) > 3 or (text[0] == "0" and text != "0"):
        raise invalid("a prefix length is decimal without leading zeros")
    if int(text) > BITS[version]:
        raise invalid("a prefix length is at most the address's length")
    return int(text)


def read_prefix(text, version=None):
    if not isinstance(text, str):
        raise invalid("a prefix is a string")
    address, slash, length = text.partition("/")
    if not slash:
        raise invalid("a prefix is ADDRESS/LENGTH")
    version, number = read_address(address, version)
    prefix = Prefix(version, number, read_length(length, version))
    if number % (1 << BITS[version] - prefix.length):
        raise invalid("a prefix has no host bits")
    return prefix


def spell(version, number, length=None):
    address = str(ADDRESS_TYPES[version](number))
    return address if length is None else f"{address}/{length}"


def no_json(text):
    raise ValueError("Python's parser takes NaN and Infinity, JSON does not")


def read_integer(digits):
    """Past 40 digits no field has a use for the value, and Python refuses some 4300: any float is as ill-typed."""
    return int(digits) if len(digits) <= 40 else float("inf")


DECODER = json.JSONDecoder(parse_constant=no_json, parse_int=read_integer)


def without_nulls(fields):
    """`null` is the same as absent."""
    return {key: value for key, value in fields.items() if value is not None}


def failure(number, refusal, code=None):
    code = code or (-32602 if refusal.kind == "invalid" else -32000)
    error = {"code": code, "message": str(refusal), "data": {"kind": refusal.kind}}
    return {"jsonrpc": "2.0", "id": number, "error": error}


def answer(line, handle):
    """The response to one line, as an object. `handle(method, params)` returns the result or raises a Refusal."""
    try:
        request = DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return failure(None, invalid("the line is no JSON"), -32700)
    number = request.get("id") if isinstance(request, dict) else None
    if type(number) not in (int, str):
        return failure(None, invalid("a request is an object with a number or string as id"), -32600)
    method, params = request.get("method"), request.get("params")
    params = {} if params is None else params
    if request.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, (dict, list)):
        return failure(number, invalid("that is no JSON-RPC 2.0 request"), -32600)
    try:
        if isinstance(params, list):
            raise invalid("parameters are named")
        return {"jsonrpc": "2.0", "id": number, "result": handle(method, without_nulls(params))}
    except Refusal as refusal:
        return failure(number, refusal)


class Server:
    """Serves an allocator on stdin and stdout until the end of stdin."""

    def __init__(self, allocator):
        self.allocator = allocator
        self.output = sys.stdout.buffer

    def run(self):
        for line in iter(sys.stdin.buffer.readline, b""):
            self.send(answer(line, self.allocator.call))
        self.allocator.close()

    def send(self, response):
        self.write(json.dumps(response).encode() + b"\n")

    def write(self, data):
        self.output.write(data)
        self.output.flush()
