"""
A program: `reaper.py COMMAND ARGS...` runs COMMAND and tells, as JSON in its last line, what it cost with all that it has started.

Whatever COMMAND leaves behind (the master connections of ControlPersist) is ended, and counted too.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    status = subprocess.run(sys.argv[1:], check=False).returncode
    wall = time.monotonic() - began
    while reap():
        for pid in children():
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print()
    print(json.dumps({"status": status, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime}))


def reap() -> bool:
    """Whether there are children still, the ended ones taken away."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    except ChildProcessError:
        return False


def children() -> "list[int]":
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
        except FileNotFoundError:
            pass
    return found


main()
