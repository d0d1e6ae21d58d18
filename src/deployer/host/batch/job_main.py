"""
The process around a job: its exit code is in a file when this ends, whoever of the engine has died meanwhile.

`job_main.py REPORT COMMAND…`, run as a script. Passes on the signals that ask a process to stop.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import List

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(report: str, argv: List[str]) -> int:
    """The exit code of *argv*, as a shell would tell it: 128 + N for a death by signal N."""
    asked: List[int] = []
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: asked.append(number))
    try:
        # What is asked before there is a child is passed on to it as soon as there is one.
        child = subprocess.Popen(argv, preexec_fn=_defaults)
    except OSError as error:
        _say(f"{error.filename or argv[0]}: {error.strerror}")
        return _told(report, 126 if isinstance(error, PermissionError) else 127)
    for number in PASSED_ON:
        signal.signal(number, lambda number, frame: child.send_signal(number))
    for early in asked:
        child.send_signal(early)
    code = child.wait()
    return _told(report, code if code >= 0 else 128 - code)


def _defaults() -> None:
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_DFL)


def _told(report: str, code: int) -> int:
    try:
        with open(f"{report}.new", "w") as file:
            json.dump({"exit_code": code}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{report}.new", report)
    except OSError as error:
        _say(f"deployer: the exit code could not be written down: {error}")
    return code


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
