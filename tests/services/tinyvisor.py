"""
A supervisor such as somebody wrote for himself, after pm2: `tinyvisor.py HOME start -- ARGV…`, `stop`, `status`, `pid`.

`start` leaves a daemon behind that runs ARGV, in the directory and with the environment of `start`, and starts it again when it
has ended; after three quick ends it gives up. `stop` sends one SIGTERM to ARGV's process, and returns once that has gone.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

QUICK, GIVES_UP, PAUSE = 1.0, 3, 0.2
LOOK = 0.02
NOTICES_AFTER = 1.0  # a supervisor needs its moment to see that its process was killed by somebody else


def number(path):
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            return pid > 0 and file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def write(path, text):
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


class Visor:
    """The daemon in HOME, its process, and the wish that it stops: a file each."""

    def __init__(self, home):
        os.makedirs(home, exist_ok=True)
        self.daemon, self.app, self.wish = (pathlib.Path(home, name) for name in ("daemon.pid", "app.pid", "stop"))

    def running(self):
        return alive(number(self.daemon)) and alive(number(self.app))

    def start(self, argv):
        if alive(number(self.daemon)):
            sys.exit("already running")
        for path in (self.wish, self.app):
            if os.path.exists(path):
                os.remove(path)
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            self.keep(argv)
            os._exit(0)
        os.wait()
        deadline = time.monotonic() + 20
        while not number(self.app) and time.monotonic() < deadline:
            time.sleep(LOOK)

    def keep(self, argv):
        write(self.daemon, str(os.getpid()))
        quick = 0
        while quick < GIVES_UP and not os.path.exists(self.wish):
            began = time.monotonic()
            app = subprocess.Popen(argv, start_new_session=True)
            write(self.app, str(app.pid))
            if app.wait() == -signal.SIGKILL:
                time.sleep(NOTICES_AFTER)
            quick = quick + 1 if time.monotonic() - began < QUICK else 0
            time.sleep(PAUSE)

    def stop(self):
        daemon = number(self.daemon)
        if not alive(daemon):
            return
        write(self.wish, "")
        if alive(number(self.app)):
            os.kill(number(self.app), signal.SIGTERM)
        while alive(daemon):
            time.sleep(LOOK)


def main(home, what, *rest):
    visor = Visor(home)
    if what == "start":
        visor.start(list(rest[1:]))
    elif what == "stop":
        visor.stop()
    elif what == "status":
        sys.exit(0 if visor.running() else 3)
    elif what == "pid":
        print(number(visor.app) if visor.running() else 0)
    else:
        sys.exit(f"tinyvisor.py: unknown {what}")


if __name__ == "__main__":
    main(*sys.argv[1:])
