"""Many ascending numbers as few pairs: how one side tells the other which of the things that both can count."""

from __future__ import annotations

from typing import List, Sequence


def spans(numbers: Sequence[int]) -> List[List[int]]:
    """Ascending *numbers* as [first, count] pairs: how they cross the link."""
    found: List[List[int]] = []
    for one in numbers:
        if found and found[-1][0] + found[-1][1] == one:
            found[-1][1] += 1
        else:
            found.append([one, 1])
    return found


def spread(pairs: object, most: int) -> List[int]:
    """The numbers that `spans` told, all below *most* and ascending. Raises ValueError for anything else."""
    numbers: List[int] = []
    if not isinstance(pairs, list):
        raise ValueError("not a list of spans")
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(one) is int for one in pair)):
            raise ValueError("not a span")
        first, count = pair
        if first < (numbers[-1] + 1 if numbers else 0) or count < 1 or first + count > most:
            raise ValueError(f"a span out of order or beyond {most}")
        numbers.extend(range(first, first + count))
    return numbers
