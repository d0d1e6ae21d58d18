"""Services of a job, as classes and as a program (`python3 batch_services.py NAME [how]`). Each writes down what it is asked."""

import os
import signal
import sys
import time

HERE = os.environ["HERE"]


def note(*words):
    with open(f"{HERE}/services", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


class Cache:
    def __init__(self):
        note("cache", "built")

    def stop(self):
        note("cache", "stop")

    def cleanup(self):
        note("cache", "cleanup")


class Raises(Cache):
    def cleanup(self):
        note("cache", "cleanup")
        raise RuntimeError("the cache is stuck")


class Hangs(Cache):
    def cleanup(self):
        note("cache", "cleanup")
        time.sleep(600)


class Broken:
    def __init__(self):
        raise ValueError("no model file")


def bye(number, frame):
    note("queue", "stop")
    sys.exit(0)


if __name__ == "__main__":
    how = sys.argv[1] if len(sys.argv) > 1 else ""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "stubborn" else bye)
    note("queue", "built")
    if how == "breaks":
        print("queue: cannot open its file", flush=True)
        sys.exit(3)
    while True:
        if how == "dies" and os.path.exists(f"{HERE}/began"):
            os._exit(9)
        time.sleep(0.02)
