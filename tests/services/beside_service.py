"""
An app and its services, all one program: `python3 beside_service.py NAME`. Each writes down its turns in $HERE/turns.

What it does stands in NAME/how: nothing, `breaks` (it never becomes ready), `dies` (once $HERE/die is there), `slow` (its end
takes until $HERE/go is there).
"""

import os
import signal
import sys
import time

HERE = os.environ["HERE"]


def note(name, what):
    with open(f"{HERE}/turns", "a") as file:
        file.write(f"{name} {what} {os.getpid()}\n")


def how(name):
    with open(f"{name}/how") as file:
        return file.read().split()


class Queue:
    def __init__(self):
        note("queue", "up")
        if "breaks" in how("queue"):
            raise ValueError("queue: no model file")

    def cleanup(self):
        note("queue", "down")


def asked(name):
    while "slow" in how(name) and not os.path.exists(f"{HERE}/go"):
        time.sleep(0.02)
    note(name, "down")
    os._exit(0)


if __name__ == "__main__":
    name = sys.argv[1]
    signal.signal(signal.SIGTERM, lambda *_: asked(name))
    note(name, "up")
    if "breaks" in how(name):
        print(f"{name}: cannot open its file, the token is {os.environ.get('TOKEN')}", flush=True)
        sys.exit(3)
    while not ("dies" in how(name) and os.path.exists(f"{HERE}/die")):
        time.sleep(0.02)
    os.unlink(f"{HERE}/die")
    os._exit(9)
