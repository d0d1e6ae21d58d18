"""Fixtures of the integration tests: real servers, and this process in the client's HOME."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sshd import Bed, make_bed


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """No hosts yet; HOME of this process is the client's, and there is no agent."""
    with make_bed() as made:
        monkeypatch.setenv("HOME", str(made.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield made
