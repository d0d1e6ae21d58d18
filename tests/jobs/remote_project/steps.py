"""The project of the tests of RemoteEnvironment: what is here is found there by its import path."""

import os
import signal
import time

from deployer.jobs import service

HERE = os.environ.get("HERE", ".")


def note(*words):
    with open(f"{HERE}/told", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


class Cache:
    def __init__(self, factor=1, name="cache"):
        self.factor, self.name, self.calls = factor, name, 0
        note(name, "built", os.getpid())

    def times(self, item):
        self.calls += 1
        return item * self.factor

    def broken(self):
        raise KeyError("no such page")

    def stop(self):
        note(self.name, "stop")

    def cleanup(self):
        note(self.name, "cleanup")


class Raises(Cache):
    def cleanup(self):
        super().cleanup()
        raise OSError("no way")


class Hangs(Cache):
    def cleanup(self):
        super().cleanup()
        time.sleep(600)


def pages():
    return iter(range(10))


def fetch(item):
    return service("cache").times(item)


def even(item):
    return item % 4 == 0


def store(item):
    note("stored", item)


def asks_for_too_much(item):
    service("cache").broken()


def fails(item):
    raise ValueError(f"page {item} is odd")


def dies(item):
    os.kill(os.getpid(), signal.SIGKILL)


def waits(item):
    note("waits", os.getpid())
    while not os.path.exists(f"{HERE}/go"):
        time.sleep(0.02)
    return item
