"""
Whenever the runner dies, another one finishes or undoes its deploy, and no work is lost.

A short version of `scripts/faults`, which tries every moment: here the ones at which most is at stake.
"""

from __future__ import annotations

import pytest
from scenario import ends

from app import App


def test_runner_that_dies_before_the_old_process_was_asked_to_stop_changes_nothing(served: App) -> None:
    writes = [("stage begin", False), ("install instance", False), ("switch done", True)]
    assert ends(served, "runner", writes) == ["failed"] * 3


def test_runner_that_dies_after_the_promise_is_followed_by_one_that_keeps_it(served: App) -> None:
    writes = [("drain.finished", False), ("ready begin", False), ("host.finished", False)]
    assert ends(served, "runner", writes) == ["done"] * 3


@pytest.mark.full
def test_runner_that_dies_with_a_broken_release_is_followed_by_one_that_reverts(served: App) -> None:
    writes = [("replace done", True), ("revert begin", True), ("revert.finished", True)]
    assert ends(served, "runner", writes) == ["reverted"] * 3


def test_runner_that_dies_with_its_client_is_followed_by_another(served: App) -> None:
    writes = [("replace done", False), ("revert begin", True)]
    assert ends(served, "runner+client", writes) == ["done", "reverted"]


def test_second_runner_may_die_too(served: App) -> None:
    assert ends(served, "runner+resumed", [("replace done", False), ("revert begin", True)]) == ["done", "reverted"]


def test_agent_that_dies_is_replaced_and_the_client_hears_the_end(served: App) -> None:
    assert ends(served, "agent", [("check begin", False), ("drain.started", False)]) == ["done", "done"]


def test_client_that_dies_leaves_a_push_that_goes_on(served: App) -> None:
    assert ends(served, "client", [("install begin", False), ("revert begin", True)]) == ["done", "reverted"]
