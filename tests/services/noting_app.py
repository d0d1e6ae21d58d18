"""
overlap_app, which notes what service.py notes: its start in $STARTS_FILE, each SIGTERM in $SIGNALS_FILE.

`--exit-at-once 3`: complain and exit with this code. Python 3.9, standard library only.
"""

import asyncio
import os
import sys
import time


def note(name, word):
    with open(os.environ[name], "a") as file:
        file.write(f"{word} main {os.getpid()} {time.time():.3f}\n")


class NotingLoop(asyncio.SelectorEventLoop):
    def add_signal_handler(self, number, callback, *args):
        def heard():
            note("SIGNALS_FILE", "SIGTERM")
            callback(*args)

        super().add_signal_handler(number, heard)


note("STARTS_FILE", "start")
if "--exit-at-once" in sys.argv:
    sys.exit(int(sys.argv[-1]))

import overlap_app  # noqa: E402 - so that what is started is noted first

loop = NotingLoop()
asyncio.set_event_loop(loop)
loop.run_until_complete(overlap_app.main())
