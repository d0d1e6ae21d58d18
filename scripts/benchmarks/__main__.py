"""Runs the benchmarks that were named, or all; tables to stdout, what goes on to stderr."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cli, exits, fleet, idle, stage, upload
from benchmarks.figures import Grid, Table
from benchmarks.registry import run as registry
from benchmarks.swap import run as swap
from benchmarks.swap.ways import IN_A_ROW, WAYS


def _ray(scratch: Path, rounds: int) -> Sequence[Table | Grid]:
    from benchmarks import ray_engine  # needs pytest's rig, as none of the others does

    return ray_engine.run(scratch, rounds)


BENCHMARKS = {
    "idle": idle.run,
    "exit": exits.run,
    "cli": cli.run,
    "stage": stage.run,
    "upload": upload.run,
    "fleet": fleet.run,
    "swap": swap.compare,
    "registry": registry.run,
    "ray": _ray,
}
ROUNDS = {"idle": 15, "exit": 20, "cli": 15, "stage": 5, "upload": 5, "fleet": 3, "swap": 3, "registry": 3, "ray": 2}
ASKED_FOR = ("fleet", "swap", "registry", "ray")
"""Each takes as long as all others together, or longer: run when it is named."""


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts `bench &` with SIGINT ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        tables = [table for name in asked.names or _usual() for table in _run(name, asked)]
    except KeyboardInterrupt:
        print("bench  interrupted; everything that was started has been ended", file=sys.stderr)
        return 130
    if asked.json:
        print(json.dumps({"machine": _machine(), "tables": [table.to_json() for table in tables]}, indent=2))
    else:
        print("\n\n".join([_machine(), *map(str, tables)]))
    return 0 if all(figure.ok for table in tables for figure in table.figures) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What deployer costs, next to what it replaces.")
    usual = f"{', '.join(BENCHMARKS)} (default: all but {', '.join(ASKED_FOR)})"
    parser.add_argument("names", nargs="*", metavar="NAME", help=usual)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables, with every sample")
    parser.add_argument("--rounds", type=int, help="how often each variant is measured")
    swaps = parser.add_argument_group("swap", f"scripts/bench swap [WHO...]; WHO: {', '.join(WAYS)}")
    swaps.add_argument(
        "--pushes", type=int, metavar="N", help=f"push {', '.join(IN_A_ROW)} in a row instead: N times, or N/5"
    )
    swaps.add_argument(
        "--seconds", type=float, metavar="S", help="with --pushes: begin no push of one way after S seconds"
    )
    swaps.add_argument(
        "--rate", type=float, default=swap.RATE, help=f"short requests per second (default: {swap.RATE:g})"
    )
    asked = parser.parse_args()
    asked.who = asked.names[1:] if asked.names[:1] == ["swap"] else []
    asked.names = asked.names[:1] if asked.who else asked.names
    strangers = [name for name in asked.who if name not in WAYS]
    if strangers:
        parser.error(f"swap knows no {strangers[0]}; there are {', '.join(WAYS)}")
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    return asked


def _usual() -> list[str]:
    return [name for name in BENCHMARKS if name not in ASKED_FOR]


def _run(name: str, asked: argparse.Namespace) -> Sequence[Table | Grid]:
    scratch = Path(tempfile.mkdtemp(prefix=f"deployer-bench-{name}-"))
    try:
        rounds = asked.rounds or ROUNDS[name]
        if name != "swap":
            return BENCHMARKS[name](scratch, rounds)
        if asked.pushes:
            return swap.pushes(scratch, asked.pushes, asked.who, asked.rate, asked.seconds)
        return swap.compare(scratch, rounds, asked.who, asked.rate)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _machine() -> str:
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {cores} cores"


if __name__ == "__main__":
    sys.exit(main())
