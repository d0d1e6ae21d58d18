"""Words from outside cannot steer a terminal; numbers read as people write them."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from cli_fakes import event, progress, task

from deployer.cli.app_log import LineLog
from deployer.cli.output import Output
from deployer.cli.render import drain, text
from deployer.cli.render.errors import error_text
from deployer.cli.render.lines import Layout, Line
from deployer.cli.render.live import LiveProgress, bar
from deployer.cli.render.paint import Paint
from deployer.errors import DeployerError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("dirty", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1bcreset", "reset"),
        ("\x1b", ""),
        ("\x1b[", ""),
        ("bell\x07 back\b nul\x00 \x7f", "bell back nul "),
        ("\u202eright to left\u202c", "right to left"),
        ("over\rwritten", "overwritten"),
        ("two\nlines\there é ☃", "two\nlines    here é ☃"),
    ],
)
def test_text_from_outside_loses_what_steers_a_terminal(dirty: str, plain: str) -> None:
    assert text.clean(dirty) == plain


def test_task_name_and_line_break_cannot_fake_a_line() -> None:
    shown = Layout(("local",)).text(Line("local", "drain", "ok", "1s", text.task({"name": "a\nlocal  drain\x1b[1A"})))
    assert shown == "local  drain   ok     1s      a local drain"


def test_error_with_escapes_is_harmless_and_its_lines_are_indented() -> None:
    shown = error_text(DeployerError("no\x1b[2J", cause="a\nb"), Paint(True))
    assert shown == "\x1b[1;31merror:\x1b[0m no\n  cause: a\n         b"


def test_escape_sequence_cut_in_two_cannot_slip_through_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    log = LineLog(SimpleNamespace(out=Output(stream)), 0)  # type: ignore[arg-type]
    for piece in (b"a\x1b", b"[2J", b"b\xc3", b"\xa9\nrest"):
        log.write("local", piece)
    log.close()
    assert stream.getvalue() == "abé\nrest\n"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (4096, "4 kB"), (3_100_000, "3.1 MB"), (999_999, "1.0 MB"), (25_000_000, "25 MB")],
)
def test_size(count: int, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("elapsed", "ceiling", "shown"),
    [
        (0, 660, "░░░░░░░░░░░░  0ms of 11m"),
        (300, 660, "█████░░░░░░░  5m of 11m"),
        (900, 660, "████████████  15m of 11m"),
        (1, 0, "░░░░░░░░░░░░  1s of 0ms"),
    ],
)
def test_bar_fills_up_to_the_ceiling(elapsed: float, ceiling: float, shown: str) -> None:
    assert bar(elapsed, ceiling) == shown


def test_live_view_ages_between_two_events() -> None:
    now = 100.0
    live = LiveProgress(Output(io.StringIO()), Layout(("local",)), clock=lambda: now)
    live.show(progress(0.2), 8812)
    now += 60
    head, *below = live.rows(100)
    assert head.startswith("local  drain   callClaude 5m12s · 1 task · pid 8812 ")
    assert head.endswith("█░░░░░░░░░░░  1m of 11m")
    assert len(head) < 100
    assert [row.strip() for row in below] == ["callClaude 5m12s", "pid 8812 node api.js", "pid 8813 claude -p"]


@pytest.mark.parametrize("width", [1, 20, 40, 80])
def test_live_view_never_grows_wider_than_the_terminal(width: int) -> None:
    live = LiveProgress(Output(io.StringIO()), Layout(("local",)))
    live.show(progress(0.2), 8812)
    assert all(len(row) <= max(width, len(bar(0.2, 660)) + 1) for row in live.rows(width))


def test_live_view_of_an_odd_event_is_empty_and_harmless() -> None:
    live = LiveProgress(Output(io.StringIO()), Layout(("local",)))
    live.show(event("drain.progress", tasks=3), None)
    assert live.rows(80) == []


def test_app_that_has_not_heard_the_signal_is_told_after_a_while() -> None:
    deaf = {**progress(5.0), "heard": False}
    assert "no sign that it heard the signal" in drain.in_progress(deaf)
    assert "no sign" not in drain.in_progress({**deaf, "elapsed_s": 1.0})
    assert "no sign" not in drain.in_progress({**deaf, "heard": None})


@pytest.mark.parametrize(
    ("busy", "health", "shown"),
    [
        (3, "ok", "3 in progress"),
        (True, "ok", "busy"),
        (False, "shutting_down", "health shutting_down"),
        (None, "none", ""),
    ],
)
def test_work_without_named_tasks(busy: object, health: str, shown: str) -> None:
    assert drain.in_progress({"busy": busy, "health": health, "tasks": []}) == shown


def test_lost_task_without_an_age_is_as_old_as_its_start() -> None:
    lost = {"lost": [{**task(0), "age_s": None}], "time": "2026-11-21T20:00:12Z"}
    assert drain.lost_tasks(lost) == "lost: callClaude (1m12s)"
