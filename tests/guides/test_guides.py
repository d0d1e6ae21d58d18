"""The pages of docs/guides, followed to the letter: three pushes under load, and nobody is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from guide import Guide, guide
from servers import servers

from load import Figures, Load
from parts import need

LOAD = {"rate": 60, "kept": 8, "slow_rate": 2, "slow_seconds": 1.5}
PUSHES = 2

pytestmark = pytest.mark.timeout(300)


def pushed_under_load(app: Guide, **load: float) -> Figures:
    """What clients saw of push after push; each old release ended well, without a gap."""
    app.push()
    with Load(app.url, **{**LOAD, **load}) as clients:
        for number in range(PUSHES):
            app.release(f"v{number + 2}")
            result = app.push()
            assert result.event("drain.finished")["verdict"] == "clean"
            assert result.event("host.finished")["gap_ms"] == 0
        seen = clients.stop()
    assert len(seen.releases) == PUSHES + 1 and seen.raw["kinds"]["slow"]["sent"] > PUSHES
    return seen


@pytest.mark.parametrize(
    ("page", "slow_seconds"),
    [
        ("gunicorn.md", 1.5),
        pytest.param("uvicorn.md", 1.5, marks=pytest.mark.full),
        pytest.param("hypercorn.md", 5, marks=pytest.mark.full),
    ],
)
def test_python_server_loses_nobody(tmp_path: Path, page: str, slow_seconds: float) -> None:
    with guide(tmp_path, page, servers()) as app:
        seen = pushed_under_load(app, slow_seconds=slow_seconds)  # hypercorn gives them 3 s, after a linger of 1 s
        assert seen.losses == {}, seen.examples


def test_node_loses_nobody(tmp_path: Path) -> None:
    need("node")
    with guide(tmp_path, "node.md") as app:
        seen = pushed_under_load(app)
        assert seen.losses == {}, seen.examples
