"""
Jobs as programs of their own: `programs.py NAME DIRECTORY [ray]`. Each writes what its services did into DIRECTORY/closed, a line
for each call, and prints one JSON line for each submit: the report, or the error with it. Steps that wait say so: `begun` there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from deployer.jobs import JobError, LocalEnvironment
from deployer.jobs.identity import children

NAME, HERE, *MORE = sys.argv[1:] if len(sys.argv) > 2 else ("", ".")
RAY = "ray" in MORE


class Service:
    def __init__(self, name: str, here: str = HERE) -> None:
        self.name = name
        self.here = Path(here)

    def say(self, word: str) -> None:
        with open(self.here / "closed", "a") as file:
            file.write(f"{self.name} {word}\n")

    def pid(self) -> int:
        return os.getpid()

    def double(self, item: int) -> int:
        return item * 2

    def stop(self) -> None:
        self.say("stop")

    def cleanup(self) -> None:
        self.say("cleanup")


class Raises(Service):
    def stop(self) -> None:
        super().stop()
        raise OSError("no way")


class Hangs(Service):
    def cleanup(self) -> None:
        super().cleanup()
        time.sleep(3600)


class Slow(Service):
    """Its clean-up takes until somebody says so, in DIRECTORY/go."""

    def cleanup(self) -> None:
        self.say("begins")
        while not (self.here / "go").exists():
            time.sleep(0.02)
        super().cleanup()


class Broken(Service):
    def __init__(self, name: str) -> None:
        raise RuntimeError("no such model")


class Owner(Service):
    """Has a process of its own, as a queue or a cache would."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.child = subprocess.Popen(["sleep", "3600"])

    def cleanup(self) -> None:
        self.child.kill()
        self.child.wait()
        super().cleanup()


def environment(*services: tuple[str, type], within: str = "1s") -> LocalEnvironment:
    env = LocalEnvironment("trial", ray="auto" if RAY else None, task_grace="500ms")
    for name, cls in services:
        env.register_service(name, cls, (name,), remote=RAY, cleanup_timeout=within)
    return env


def tell(env: LocalEnvironment, autostop: bool = True) -> None:
    try:
        env.submit(autostop=autostop)
        error = None
    except JobError as failed:
        error = [str(failed), type(failed.__cause__).__name__]
    assert env.report is not None
    print(json.dumps({**env.report.to_json(), "raised": error}), flush=True)


def boom(item: int) -> int:
    if item == 7:
        raise ValueError("boom")
    return item


def die(item: int) -> int:
    if item == 7:
        os.kill(os.getpid(), 9)
    return item


def wait(item: int) -> int:
    """In whatever process: says which, and stays."""
    with open(Path(HERE) / "begun", "a") as file:
        file.write(f"{os.getpid()}\n")
    threading.Event().wait()
    return item


def healthy() -> None:
    env = environment(("first", Service), ("second", Service))
    first = env.service("first")
    env.from_batch(range(20)).map(lambda item: first.double(item))
    tell(env)


def raises() -> None:
    env = environment(("first", Service), ("second", Service))
    env.from_batch(range(20)).map(boom)
    tell(env)


def closes_badly() -> None:
    env = environment(("first", Service), ("second", Raises), ("third", Hangs), ("fourth", Service))
    env.from_batch(range(20)).map(boom if RAY else str)
    tell(env)


def worker_killed() -> None:
    env = environment(("first", Service))
    env.from_batch(range(20)).map(die, executor="ray" if RAY else "processes", workers=2)
    tell(env)


def service_killed() -> None:
    env = environment(("first", Service), ("second", Service))
    second = env.service("second")
    env.from_batch(range(3)).sink(lambda _: os.kill(second.pid(), 9))
    tell(env)


def not_built() -> None:
    env = environment(("first", Service), ("second", Broken), ("third", Service))
    env.from_batch(range(3)).sink(print)
    tell(env)


def left_running() -> None:
    env = environment(("first", Service))
    tell(env, autostop=False)
    pid = env.service("first").pid()
    Path(HERE, "alive").write_text(str(os.path.exists(f"/proc/{pid}")))
    for _ in range(2):
        report = env.stop()
        assert report is not None
        print(json.dumps(report.to_json()), flush=True)
    Path(HERE, "pids").write_text(str(pid))


def forgotten() -> None:
    """Nobody calls stop()."""
    tell(environment(("first", Service), ("second", Service)), autostop=False)


def waits() -> None:
    env = environment(("first", Service), ("second", Service))
    env.from_batch(range(20)).map(wait, workers=2)
    tell(env)


def waits_in_processes() -> None:
    env = environment(("first", Owner if "owner" in MORE else Service))
    env.from_batch(range(20)).map(wait, executor="processes", workers=2)
    tell(env)


def waits_and_closes_slowly() -> None:
    env = environment(("first", Service), ("second", Slow), within="60s")
    env.from_batch(range(20)).map(wait, workers=1)
    tell(env)


def fails_often() -> None:
    """Each time with tasks that end just when the job does."""
    failed = 0
    for _ in range(60):
        env = environment()
        env.from_batch(range(40)).map(boom, workers=6)
        try:
            env.submit()
        except JobError:
            assert env.report is not None
            failed += env.report.clean
    print(failed)


def all_of_ray() -> None:
    """One driver, connected once by somebody else: the time that it takes to connect is most of a scenario."""
    import ray

    ray.init(log_to_driver=False)
    ends = (healthy, raises, closes_badly, worker_killed, service_killed, not_built)
    for scenario in (*ends, left_running, fails_often):
        print(json.dumps(scenario.__name__))
        scenario()
    print(json.dumps(["initialized", ray.is_initialized()]))


def own_cluster() -> None:
    """Steps in threads, one service an actor: Ray is begun for it, and ended."""
    env = LocalEnvironment("trial")
    env.register_service("here", Service, ("here",))
    env.register_service("actor", Service, ("actor",), remote=True)
    actor, here, got = env.service("actor"), env.service("here"), []
    env.from_batch(range(5)).map(lambda item: actor.double(here.double(item))).sink(got.append)
    tell(env)
    left = [Path(f"/proc/{pid}/cmdline").read_text() for _, pid, _ in children()]
    import ray

    print(json.dumps([got, ray.is_initialized(), left]))


if __name__ == "__main__":
    globals()[NAME]()
