"""The real parts that tests run against: skipped where a machine lacks one, a failure where CI promises it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

REQUIRED = "DEPLOYER_REQUIRE_PARTS"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def need(*commands: str) -> None:
    """Return when all of *commands* are here."""
    for command in commands:
        if find(command) is None:
            missing(f"{command} is not installed")


def need_root() -> None:
    """Return when we may do what only root may."""
    if os.geteuid() != 0:
        missing("only root can do this")


def find(command: str) -> str | None:
    """Where *command* is, the places that only root has in its PATH included."""
    return shutil.which(command) or shutil.which(command, path=_SBIN)


def missing(what: str) -> NoReturn:
    """Skip, or fail where the machine was promised to have it."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what}, and {REQUIRED} is set")
    pytest.skip(what)
