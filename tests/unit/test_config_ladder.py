import pytest

from deployer.config import secrets
from deployer.config.ladder import Rung, check
from deployer.errors import UsageError

APP, CEILING, UNIT = Rung("drain.app_grace", 600), Rung("drain.ceiling", 660), Rung("systemd TimeoutStopSec", 90)


def test_rising_ladders_pass():
    for rungs in ([], [APP], [APP, CEILING], [Rung("a", 1), Rung("b", 1.001), Rung("c", 2)]):
        assert check(rungs) is None, "it raises where one does not outlast the other"


@pytest.mark.parametrize("rungs", [[APP, CEILING, UNIT], [CEILING, Rung("systemd TimeoutStopSec", 660)]])
def test_outer_rung_that_does_not_outlast_the_inner_is_named_with_both_values(rungs):
    with pytest.raises(UsageError) as caught:
        check(rungs)
    assert "drain.ceiling = 11m" in caught.value.cause
    assert "systemd TimeoutStopSec = " in caught.value.cause
    assert "systemd TimeoutStopSec" in caught.value.hint


def test_secrets_come_from_the_environment():
    assert secrets.values(["A"], {"A": "x", "B": "y"}) == {"A": "x"}


def test_every_missing_secret_is_named_and_no_value_shown():
    with pytest.raises(UsageError) as caught:
        secrets.values(["A", "B", "C"], {"A": "hunter2", "B": ""})
    text = f"{caught.value.title} {caught.value.cause} {caught.value.hint}"
    assert "B, C" in caught.value.title
    assert "export B=" in caught.value.hint and "export C=" in caught.value.hint
    assert "hunter2" not in text
