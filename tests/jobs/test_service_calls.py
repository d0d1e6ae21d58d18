"""Calls of a service by other processes of its run: whatever goes wrong, the caller is told what it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.jobs import calls
from deployer.jobs.hosted import HostedService


class TwoArguments(Exception):
    def __init__(self, page: str, why: str) -> None:
        super().__init__(f"{page} is {why}")


class Unreadable:
    """Can be written as a pickle, and not be read again: as a class of the caller's own script."""

    def __reduce__(self) -> Any:
        return gone, ()


def gone() -> None:
    raise AttributeError("no such class here")


class Service:
    def raises(self) -> None:
        raise TwoArguments("a", "odd")

    def leaves(self) -> None:
        sys.exit(3)

    async def later(self) -> int:
        return 5

    def takes(self, what: Any) -> None: ...

    def gives(self) -> Unreadable:
        return Unreadable()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[HostedService]:
    path = str(tmp_path / "service.sock")
    answering = calls.Calls(Service(), path)
    yield HostedService("model", path)
    answering.close()


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda model: model.raises(), "raises raised TwoArguments: a is odd"),
        (lambda model: model.leaves(), r"leaves raised SystemExit\(3\)"),
        (lambda model: model.takes(Unreadable()), "what was sent to the service cannot be read there"),
        (lambda model: model.gives(), "what gives gave cannot be read here"),
    ],
    ids=["error-that-cannot-be-read", "exit", "argument", "result"],
)
def test_caller_is_told_what_went_wrong(service: HostedService, call: Callable[[Any], Any], told: str) -> None:
    with pytest.raises(RuntimeError, match=told):
        call(service)


def test_coroutine_is_run_to_its_end(service: HostedService) -> None:
    assert service.later() == 5


def test_service_that_has_no_descriptor_left_answers_later(
    service: HostedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = calls.Calls(Service(), str(tmp_path / "second.sock"))
    accept, refused = answering._listener.accept, [OSError(24, "Too many open files")]

    def full() -> Any:
        if refused:
            raise refused.pop()
        return accept()

    model = HostedService("model", str(tmp_path / "second.sock"))
    monkeypatch.setattr(answering._listener, "accept", full)
    assert model.later() == 5 and model.later() == 5 and not refused
    answering.close()
