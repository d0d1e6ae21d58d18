"""`PYTHONPATH=src:tests python tests/sim/replay.py SEED`: the whole story of one schedule, and which promises it breaks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from sim_schedule import play


def main(argv: list[str]) -> int:
    result = play(int(argv[0]))
    print(result.trace)
    print(f"\nseed {result.seed}: {result.story.name}; {result.effects} effects, {result.seconds:.1f} virtual seconds")
    for fault in result.faults:
        print(f"  {fault}")
    for problem in result.problems:
        print(f"BROKEN {problem}")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
