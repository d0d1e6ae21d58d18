"""Fixtures of the app's side: `program` (living.py), and `agents`, which are stopped at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from living import program

from deployer.lifecycle.node import NodeAgent

__all__ = ["agents", "program"]


@pytest.fixture
def agents() -> Iterator[list[NodeAgent]]:
    made: list[NodeAgent] = []
    yield made
    for agent in made:
        agent.stop()
