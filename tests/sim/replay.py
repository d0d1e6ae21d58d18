"""
`PYTHONPATH=src:tests python tests/sim/replay.py SEED`: the whole story of one schedule, and which promises it breaks.

`replay.py FIRST-LAST` runs many and tells which failed; `replay.py --planted NAME SEED` does either with a planted bug.
Seeds from 1000000 on walk through every effect of every story with every kind of fault.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from sim_mutations import MUTATIONS
from sim_schedule import play, systematic
from sim_stories import OVERLAPS, STORIES


def main(argv: list[str]) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--planted", choices=[mutation.name for mutation in MUTATIONS])
    options.add_argument("seeds")
    given = options.parse_args(argv)
    plant = next((mutation.plant for mutation in MUTATIONS if mutation.name == given.planted), nullcontext)
    first, _, last = given.seeds.partition("-")
    systematic(STORIES), systematic(OVERLAPS)  # measured on the sound engine
    with plant():
        return many(int(first), int(last)) if last else one(int(first))


def one(seed: int) -> int:
    result = play(seed)
    print(result.trace)
    print(f"\nseed {seed}: {result.story.name}; {result.effects} effects, {result.seconds:.1f} virtual seconds")
    for fault in result.faults:
        print(f"  {fault}")
    for problem in result.problems:
        print(f"BROKEN {problem}")
    return 1 if result.problems else 0


def many(first: int, last: int) -> int:
    struck: set[tuple[str, str]] = set()
    started, failed, effects = time.perf_counter(), 0, 0
    for seed in range(first, last + 1):
        result = play(seed, keep_trace=False)
        struck.update(result.struck)
        effects += result.effects
        if result.problems:
            failed += 1
            print(f"seed {seed}: {result.story.name}: {result.problems[0]}")
    took = time.perf_counter() - started
    count = last + 1 - first
    print(
        f"{count} schedules, {failed} failed, {effects} effects, {len(struck)} pairs of effect and fault, {took:.1f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
