"""An independent open-loop load on a service, as a process of its own: see scripts/benchmarks/load.py for what it does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path(__file__).parent.parent / "scripts" / "benchmarks" / "load.py"
FIRST_ANSWERS_WITHIN = 20.0
"""Seconds; also where two cores run the tests of four people."""
ENDS_WITHIN = 60.0


@dataclass(frozen=True)
class Figures:
    """What the load printed (`raw`), and the words that tests ask for."""

    raw: dict[str, Any]

    @property
    def sent(self) -> int:
        return int(self.raw["sent"])

    @property
    def lost(self) -> int:
        return int(self.raw["lost"])

    @property
    def losses(self) -> dict[str, int]:
        """Class: how many, of those that occurred; `{}` when nothing was lost."""
        return {name: found["count"] for name, found in self.raw["losses"].items() if found["count"]}

    @property
    def examples(self) -> list[dict[str, Any]]:
        return [{"class": name, **one} for name, found in self.raw["losses"].items() for one in found["examples"]]

    @property
    def longest_stall_ms(self) -> float:
        return float(self.raw["longest_stall_ms"])

    @property
    def releases(self) -> dict[str, int]:
        return dict(self.raw["releases"])

    @property
    def phases(self) -> dict[str, Figures]:
        return {name: Figures(raw) for name, raw in self.raw.get("phases", {}).items()}


class Load:
    """
    `with Load(url, rate=200, kept=16, slow_rate=2) as load:` ... `figures = load.stop()`.

    Entered once the first answer has come. Keywords are the options of load.py. *url* is http://… or unix:/path.
    """

    def __init__(self, url: str, **options: float | str) -> None:
        self._argv = [sys.executable, "-S", str(PROGRAM), url, "--mark"]
        for name, value in options.items():
            self._argv += [f"--{name.replace('_', '-')}", str(value)]
        self._heard = threading.Event()
        self._answers_come = False
        self._said: list[str] = []
        self._figures: Figures | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._heard.wait(FIRST_ANSWERS_WITHIN)
        if not self._answers_come:
            self._end()
            raise AssertionError(f"no answer in {FIRST_ANSWERS_WITHIN:g} s: {''.join(self._said)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def mark(self, name: str) -> None:
        """From now on it is phase *name*; the first one is `start`. Given again, a name goes on: its times are one phase."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"mark {name}\n")
        self._process.stdin.flush()

    def stop(self) -> Figures:
        """Send nothing more, wait for what is in flight, and tell."""
        if self._figures is None:
            assert self._process.stdout is not None
            self._process.send_signal(signal.SIGTERM)
            overdue = threading.Timer(ENDS_WITHIN, self._process.kill)
            overdue.start()
            try:
                out = self._process.stdout.read()
                self._process.wait()
            finally:
                overdue.cancel()
            assert out, f"the load died ({self._process.returncode}): {''.join(self._said)}"
            self._figures = Figures(json.loads(out))
        return self._figures

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join(ENDS_WITHIN)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            if "answers come" in line:
                self._answers_come = True
                self._heard.set()
        self._heard.set()  # it has ended: nobody waits for it in vain
