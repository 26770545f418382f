"""Where a durable allocator keeps its state: one file in the state directory, replaced as a whole.

A crash leaves either the old file or the new one, because the new one is complete on the disk before it takes the
old one's name. A leftover of a replacement that was cut short is overwritten by the next.
"""
import fcntl
import os
import time

from protocol import Refusal

PATIENCE = 2.0  # seconds that a call waits for another process before it answers `busy`


class Store:
    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, "state.json")

    def load(self):
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError:
            raise Refusal("storage", "the state cannot be read") from None

    def save(self, data):
        try:
            with open(self.path + ".new", "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.path + ".new", self.path)
        except OSError:
            raise Refusal("storage", "the state could not be written") from None
        try:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)  # the rename itself must survive
            finally:
                os.close(folder)
        except OSError:
            raise Refusal("unknown_outcome", "the state was written but may not survive a crash") from None

    # One process on the directory needs no lock.

    def lock(self):
        pass

    def unlock(self):
        pass


class SharedStore(Store):
    """For several processes: a call holds the lock, a transaction from `begin` to its end."""

    def __init__(self, folder):
        super().__init__(folder)
        self.file = None

    def lock(self):
        if self.file:
            return
        try:
            file = open(os.path.join(self.folder, "lock"), "wb")
        except OSError:
            raise Refusal("storage", "the lock cannot be taken") from None
        patient_until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.file = file
                return
            except BlockingIOError:
                if time.monotonic() > patient_until:
                    file.close()
                    raise Refusal("busy", "another process is at work, try again") from None
                time.sleep(0.001)
            except OSError:
                file.close()
                raise Refusal("storage", "the lock cannot be taken") from None

    def unlock(self):
        self.file.close()
        self.file = None
