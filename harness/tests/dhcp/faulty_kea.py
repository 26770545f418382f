#!/usr/bin/env python3
"""A Kea that misbehaves: the real one behind this, which passes messages and commands on and spoils some of them.

It is started as `kea-dhcp4` or `kea-dhcp6` would be, by a link of that name; FAULT says how it misbehaves."""
import glob, json, os, select, shutil, signal, socket, subprocess, sys

FAULT = os.environ["FAULT"]
NAME = os.path.basename(sys.argv[0])
V6 = NAME.endswith("6")
FAMILY = socket.AF_INET6 if V6 else socket.AF_INET
HOST = "::1" if V6 else "127.0.0.1"
RELEASE, DECLINE, ACK = 7, 4, 5


def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def udp(host, port):
    bound = socket.socket(FAMILY, socket.SOCK_DGRAM)
    bound.bind((host, port))
    return bound


def kind(message):
    """The type of a message of DHCPv4: its first option here."""
    place = 240
    while place < len(message) and message[place] not in (53, 255):
        place += 2 + message[place + 1]
    return message[place + 2] if place < len(message) and message[place] == 53 else None


class Proxy:
    def __init__(self):
        # A new one each time: the last Kea may not have been buried yet, which looks like one that runs.
        folder = os.path.dirname(option("-c"))
        for left in glob.glob(os.path.join(folder, "inner-*")):
            shutil.rmtree(left)
        self.folder = os.path.join(folder, f"inner-{os.getpid()}")
        os.makedirs(self.folder)
        self.outer_port, self.reply_port = int(option("-p")), int(option("-P") or 0)
        self.clients = udp(HOST, self.outer_port)
        spare = [udp(HOST, 0) for _ in range(2)]
        self.inner_port, self.inner_reply = (each.getsockname()[1] for each in spare)
        for each in spare:
            each.close()
        self.server = udp(HOST, 0)  # in DHCPv6 it answers here
        self.relays = {}  # sockets by relay address, in DHCPv4
        self.client = None
        self.first_address, self.messages = None, 0
        with open(option("-c")) as file:
            self.config = file.read()
        outer = self.control_of(json.loads(self.config))
        self.inner = os.path.join(self.folder, "control")
        if os.path.exists(outer):
            os.remove(outer)
        self.outer = outer
        config = os.path.join(self.folder, "kea.json")
        with open(config, "w") as file:
            file.write(self.config.replace(outer, self.inner))
        command = [shutil.which(NAME, path="/usr/sbin:/usr/local/sbin:/usr/bin"), "-c", config, "-p", str(self.inner_port)]
        environment = dict(os.environ, KEA_PIDFILE_DIR=self.folder, KEA_LOCKFILE_DIR=self.folder)
        self.kea = subprocess.Popen(command + ([] if V6 else ["-P", str(self.inner_reply)]), env=environment)
        self.commands = socket.socket(socket.AF_UNIX)
        self.commands.bind(outer)
        self.commands.listen()

    @staticmethod
    def control_of(config):
        return next(iter(config.values()))["control-socket"]["socket-name"]

    def run(self):
        while self.kea.poll() is None:
            sources = [self.clients, self.server, self.commands, *self.relays.values()]
            for ready in select.select(sources, [], [], 0.1)[0]:
                if ready is self.commands:
                    self.command()
                elif ready is self.clients:
                    self.request()
                else:
                    self.answer(ready)

    def command(self):
        connection, _ = self.commands.accept()
        asked = self.read(connection)
        with socket.socket(socket.AF_UNIX) as inner:
            try:
                inner.connect(self.inner)
                inner.sendall(asked.replace(self.outer.encode(), self.inner.encode()))
                answer = self.read(inner)
            except (FileNotFoundError, ConnectionRefusedError):
                answer = b""
        if FAULT == "unlisted" and b"-get-all" in asked and b'"leases"' in answer:
            listed = json.loads(answer)
            del listed["arguments"]["leases"][-1:]
            answer = json.dumps(listed).encode()
        connection.sendall(answer)
        connection.close()

    @staticmethod
    def read(stream):
        parts = []
        while part := stream.recv(65536):
            parts.append(part)
            try:
                json.loads(b"".join(parts))
                break
            except ValueError:
                continue
        return b"".join(parts)

    def request(self):
        message, self.client = self.clients.recvfrom(65536)
        self.messages += 1
        if FAULT == "silent" and self.messages > 20:
            return
        if FAULT == "killed" and self.messages > 20:
            self.kea.kill()
            return
        if FAULT == "deaf" and not V6 and kind(message) in (RELEASE, DECLINE):
            return
        if not V6:
            relay = socket.inet_ntoa(message[24:28])
            if relay not in self.relays:
                self.relays[relay] = udp(relay, self.inner_reply)
        self.server.sendto(message, (HOST, self.inner_port))

    def answer(self, ready):
        message = bytearray(ready.recv(65536))
        if FAULT == "garbage":
            message = message[:20] if V6 else os.urandom(20)
        if not V6 and any(message[16:20]):
            message = self.spoiled(message)
        to = self.client if V6 else (ready.getsockname()[0], self.reply_port)
        self.clients.sendto(message, to)

    def spoiled(self, message):
        if FAULT == "twice":
            self.first_address = self.first_address or message[16:20]
            message[16:20] = self.first_address
        if FAULT == "outside" and kind(message) == ACK:
            message[17] ^= 0xFF
        return message


if __name__ == "__main__":
    proxy = Proxy()
    signal.signal(signal.SIGTERM, lambda *_: proxy.kea.terminate())
    proxy.run()
