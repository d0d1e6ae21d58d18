"""What the tests of a Ray target deploy. What it does depends on the files of its release: version.txt, trouble.txt."""

import asyncio
import os
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
VERSION = (HERE / "version.txt").read_text().strip()
TROUBLE = (HERE / "trouble.txt").read_text().strip() if (HERE / "trouble.txt").exists() else ""
SAID = Path(os.environ["SAID"])

if TROUBLE == "import":
    raise ImportError("no such library")


def say(*words):
    with SAID.open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def until(path):
    """Wait for a file; a test decides how long a call takes."""
    while not Path(path).exists():
        time.sleep(0.02)


class Plain:
    """No method is async: one call at a time, in the thread that built it."""

    def __init__(self):
        self.thread = threading.get_ident()
        say("building", VERSION, os.getpid())
        if TROUBLE == "raises":
            raise RuntimeError(f"migrations pending; token {os.environ['TOKEN']}")
        if TROUBLE.startswith("until "):
            until(TROUBLE[6:])
        say("built", VERSION, os.getpid(), os.environ["TOKEN"])

    def health(self):
        return TROUBLE != "ill"

    def work(self, number):
        assert threading.get_ident() == self.thread
        return VERSION, number

    def hold(self, path):
        until(path)
        return VERSION

    def who(self):
        return os.getpid(), os.environ["TOKEN"], os.environ["DEPLOYER_RELEASE"]

    def stop(self):
        say("stop", VERSION)

    def cleanup(self):
        say("cleanup", VERSION)


class Soon:
    """Its methods are async: all calls at once."""

    async def work(self, number):
        await asyncio.sleep(0.001)
        return VERSION, number

    async def hold(self, path):
        while not Path(path).exists():
            await asyncio.sleep(0.02)
        return VERSION

    async def cleanup(self):
        say("cleanup soon", VERSION)
