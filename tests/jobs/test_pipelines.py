"""Items through a pipeline: in order or as they come, a bounded number at a time, until the first error."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app import wait_until
from deployer.errors import UsageError
from deployer.jobs import JobError, LocalEnvironment


def double(item: int) -> int:
    return item * 2


def even(item: int) -> bool:
    return item % 2 == 0


def slow_when_early(item: int) -> int:
    time.sleep(0.2 if item == 0 else 0)
    return item


def refuse_three(item: int) -> int:
    if item == 3:
        raise ValueError("three")
    return item


def own_pid(_item: int) -> int:
    return os.getpid()


class Odd(Exception):
    """Pickles, but does not come back."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def raise_odd(item: int) -> int:
    raise Odd("left", "right")


class Counter:
    """A source that knows how far it was read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0
        self.closed = False

    def __call__(self) -> Iterator[int]:
        try:
            for item in range(self.count):
                self.read += 1
                yield item
        finally:
            self.closed = True


def no_threads_of(before: set[threading.Thread]) -> bool:
    return set(threading.enumerate()) <= before


@pytest.mark.parametrize("chunk", [1, 7])
def test_results_come_in_the_order_of_the_items_through_threads_and_processes(chunk: int) -> None:
    env, got = LocalEnvironment("order"), []
    steps = env.from_batch(range(50), chunk=chunk).map(double).filter(lambda item: item % 3 != 0)
    steps.map(str, executor="processes", workers=1).map(int, executor="threads").sink(got.append)
    report = env.submit()
    assert got == [item * 2 for item in range(50) if item * 2 % 3 != 0]
    assert (report.items_in, report.items_out) == (50, len(got))


def test_ordered_results_wait_for_a_slow_one() -> None:
    env, got = LocalEnvironment("ordered", workers=2), []
    env.from_batch(range(10)).map(slow_when_early).sink(got.append)
    env.submit()
    assert got == list(range(10))


def test_unordered_results_do_not_wait_for_a_slow_one() -> None:
    env, got = LocalEnvironment("unordered", workers=2), []
    env.from_batch(range(10), ordered=False).map(slow_when_early).sink(got.append)
    env.submit()
    assert sorted(got) == list(range(10)) and got[-1] == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_a_source_of_a_million_is_read_only_as_fast_as_the_sink_takes(ordered: bool) -> None:
    source, ahead = Counter(1_000_000), []
    env = LocalEnvironment("bounded", workers=4)

    def sink(_item: int) -> None:
        ahead.append(source.read - len(ahead))
        if len(ahead) == 20_000:
            raise StopIteration("enough")

    env.from_batch(source, ordered=ordered).map(double).sink(sink)
    with pytest.raises(JobError):
        env.submit()
    assert max(ahead) <= 2 * (2 * 4) + 1, "what works, what waits for it, and the one that is read"
    assert source.closed, "a generator that was not read to its end runs its finally"


def test_a_slow_head_holds_back_the_source_too() -> None:
    source, go = Counter(1_000_000), threading.Event()
    env = LocalEnvironment("head", workers=2, task_grace="50ms")
    env.from_batch(source, window=5).map(lambda item: go.wait(40) if item == 0 else item)
    with pytest.raises(JobError, match="did not end within 1s, its timeout") as caught:
        env.submit(timeout="1s")
    assert source.read == 5 and caught.value.report.left == ["map <lambda>-0 still runs in a thread"]
    go.set()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_the_first_error_ends_the_job_and_begins_nothing_new(executor: str) -> None:
    before = set(threading.enumerate())
    source = Counter(1_000_000)
    env = LocalEnvironment("first-error", workers=2)
    env.from_batch(source).map(refuse_three, executor=executor)
    with pytest.raises(JobError, match="map refuse_three raised ValueError: three at item 4") as caught:
        env.submit()
    assert isinstance(caught.value.__cause__, ValueError)
    assert source.read <= 4 + 2 * 4 and caught.value.report.left == []
    wait_until(lambda: no_threads_of(before), what="the threads of the job have ended")


def test_what_waits_for_a_worker_is_dropped_after_an_error() -> None:
    source, called = Counter(10), []

    def step(item: int) -> None:
        called.append(item)
        wait_until(lambda: source.read == 2, what="another item waits")
        raise ValueError("first")

    env = LocalEnvironment("dropped", workers=1)
    env.from_batch(source).map(step)
    with pytest.raises(JobError, match="item 1"):
        env.submit()
    assert called == [0]


def test_an_error_of_a_late_item_does_not_wait_for_an_early_one() -> None:
    go = threading.Event()
    env = LocalEnvironment("late", workers=2, task_grace="50ms")

    def step(item: int) -> int:
        return refuse_three(item) if item else int(go.wait(40))

    env.from_batch(range(10)).map(step)
    with pytest.raises(JobError, match="item 4") as caught:
        env.submit()
    assert not go.is_set() and caught.value.report.left == ["map step-0 still runs in a thread"]
    go.set()


def test_errors_of_source_and_sink_are_told_as_theirs() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    env = LocalEnvironment("ends")
    env.from_batch(source).map(double)
    with pytest.raises(JobError, match="the source raised OSError: unreadable at item 2"):
        env.submit()
    env.from_batch([1, 2]).sink(refuse_three).ending = {}.__getitem__
    with pytest.raises(JobError, match="sink __getitem__ raised KeyError: 1 at item 1"):
        env.submit()


def test_an_error_that_cannot_travel_is_told_all_the_same() -> None:
    env = LocalEnvironment("odd")
    env.from_batch([1]).map(raise_odd, executor="processes", workers=1)
    with pytest.raises(JobError, match="RuntimeError: Odd: left") as caught:
        env.submit()
    assert "in raise_odd" in str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]


def test_processes_are_other_processes_and_all_gone_afterwards() -> None:
    env, got = LocalEnvironment("pids"), []
    env.from_batch(range(4)).map(own_pid, executor="processes", workers=1).sink(got.append)
    env.submit()
    assert got and os.getpid() not in got
    assert not any(os.path.exists(f"/proc/{pid}") for pid in got)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda env: env.from_batch(3), "reads an iterable"),
        (lambda env: env.from_batch([], chunk=0), "chunk is a whole number"),
        (lambda env: env.from_batch([]).map("fetch"), "map takes a function"),
        (lambda env: env.from_batch([]).map(double, executor="fibers"), "executor is one of 'threads'"),
        (lambda env: env.from_batch([]).sink(print).map(double), "nothing comes after a sink"),
        (lambda env: env.register_service("a b", dict), "is named 'a b'"),
        (lambda env: [env.register_service("a", dict) for _ in range(2)], 'a service "a" already'),
        (lambda env: env.register_service("a", dict, cleanup_timeout=5), 'did you mean "5s"'),
        (lambda env: env.register_service("a", dict, cleanup_timeout="5"), "is not a duration"),
        (lambda env: env.register_service("a", dict, cleanup="sometimes"), "cleanup is one of 'always'"),
        (lambda env: env.register_service("a", 3), "takes a function"),
        (lambda env: env.service("nobody"), 'no service "nobody"'),
        (lambda env: env.submit(timeout=3), 'did you mean "3s"'),
        (lambda env: LocalEnvironment("a/b"), "is named 'a/b'"),
        (
            lambda env: (env.from_batch([1]).map(lambda item: item, executor="processes"), env.submit()),
            "cannot be pickled",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(wrong: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong(LocalEnvironment("odd"))
