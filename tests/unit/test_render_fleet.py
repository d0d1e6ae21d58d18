"""A push over 3, 40 and 300 hosts, on a terminal and off it: what a person must see is there, and nothing drowns it."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from cli_fakes import NEW, OLD, event, progress
from fleet_events import names, of, rollout, without_host

from deployer.cli.output import Output
from deployer.cli.render.human import HumanView, View
from deployer.cli.render.lines import Layout
from deployer.cli.render.live import LiveProgress
from deployer.cli.render.progress import Progress
from deployer.cli.render.tally import Tally


class Shown:
    """A view of a push to *count* hosts, what it wrote, and a clock that only the test moves."""

    def __init__(self, count: int, terminal: bool = False, quiet: bool = False) -> None:
        self.hosts, self.now = names(count), 100.0
        self.stream: Any = io.StringIO()
        self.stream.isatty = lambda: terminal
        self.warnings: list[str] = []
        layout = Layout(tuple(self.hosts))
        self.view = HumanView(Output(self.stream), layout, View("production", quiet), self.warnings.append)
        self.view._progress._clock = lambda: self.now

    def play(self, ends: dict[str, str] | None = None, until: str | None = None, skip: int = 0) -> Shown:
        """Play a rollout, or that part of it which comes before the event *until* (the one after *skip* others)."""
        for one in rollout(self.hosts, ends):
            if one["event"] == until and (skip := skip - 1) < 0:
                break
            self.view.event(one)
        return self

    @property
    def lines(self) -> list[str]:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.stream.getvalue()).splitlines()

    def rows(self, width: int = 100) -> list[str]:
        """What moves on the terminal."""
        assert isinstance(self.view._progress, LiveProgress)
        return self.view._progress.rows(width)


@pytest.fixture(autouse=True)
def a_terminal_that_can_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


# few hosts -----------------------------------------------------------------------------------------------------------


def test_three_hosts_tell_every_step_and_end_with_the_sum() -> None:
    lines = Shown(3).play().lines
    assert lines[2:4] == ["hosts  3 · canary web-1 · then 1 batch", "batch  1/2 · canary web-1"]
    assert [line for line in lines if "drain   ok" in line] == [
        f"web-{number}  drain   ok     4m30s   clean exit, nothing lost" for number in (1, 2, 3)
    ]
    assert lines[-2:] == [f"done   3/3 hosts on {NEW} in 4m41s · gap 83 ms", "next   deployer rollback production"]


def test_hosts_that_are_not_as_wished_stand_in_a_table_with_the_reason_worst_first() -> None:
    lines = Shown(3).play({"web-2": "reverted", "web-3": "unreachable"}).lines
    assert lines[-5:] == [
        "fail   hosts differ · 1/3 hosts as wished",
        "web-3  unreachable  not known what runs · could not be reached",
        f"web-2  reverted     on {OLD} · did not become ready",
        f"web-1  done         on {NEW}",
        "next   deployer push production goes on with the rest",
    ]
    assert "web-3  reach   FAILED         could not be reached" in lines
    assert "stop   more hosts failed than max_failed = 0 · web-2" in lines


def test_host_that_failed_on_record_can_be_explained_there() -> None:
    shown = Shown(3)
    for one in rollout(shown.hosts, {"web-2": "failed"}):
        shown.view.event({**one, "seq": 9} if one["event"] == "host.finished" else one)
    assert "next   deployer explain production d1 --host web-2" in shown.lines


def test_two_hosts_that_differ_fit_into_one_line() -> None:
    lines = Shown(2).play({"web-2": "failed"}).lines
    assert f"fail   hosts differ: web-1 done on {NEW}, web-2 failed on {OLD}" in lines


def test_lost_link_is_told_and_so_is_its_return() -> None:
    shown = Shown(3).play(until="drain.finished")
    shown.view.event(of("web-1", event("link.lost", cause="it was silent for 15 s")))
    shown.view.event(of("web-1", event("link.restored", after_s=12.0)))
    assert shown.lines[-2:] == [
        "web-1  link    lost           the deploy goes on there; trying again · it was silent for 15 s",
        "web-1  link    ok     12s     following it again",
    ]


# many hosts ----------------------------------------------------------------------------------------------------------


def test_forty_hosts_have_a_line_each_and_what_went_wrong() -> None:
    lines = Shown(40).play({"web-7": "failed", "web-9": "reverted", "web-5": "unchanged"}).lines
    assert len([line for line in lines if line.startswith("web-") and " push    done   4m38s " in line]) == 37
    assert not any("drain" in line or "stage" in line for line in lines)
    assert "web-7   push    FAILED         the check failed" in lines
    assert f"web-9   revert  ok     1s      back on {OLD}" in lines
    assert f"web-5   push    unchanged         on {NEW}" in lines
    assert lines[-5:-1] == [
        f"web-7   failed       on {OLD} · the check failed",
        f"web-9   reverted     on {OLD} · did not become ready",
        f"        done         37 hosts · on {NEW}",
        f"        unchanged    1 host · on {NEW}",
    ]


def test_three_hundred_hosts_tell_batches_and_what_went_wrong() -> None:
    lines = Shown(300).play().lines
    assert len(lines) < 20
    assert "batch    5/5 · 74 hosts" in lines
    assert lines[-2] == f"done     300/300 hosts on {NEW} in 4m41s · gap 83 ms"


def test_rollout_over_three_hundred_hosts_that_stops_names_the_bad_ones_and_counts_the_rest() -> None:
    lines = Shown(300).play({"web-7": "failed", "web-9": "reverted", "web-3": "unreachable"}).lines
    assert len(lines) < 25
    assert "batch    2/5 ended: 73 done · 2 failed" in lines
    assert f"         done         74 hosts · on {NEW}" in lines
    untouched = "223 hosts: web-78, web-79, web-80, web-81, web-82 and 218 more"
    assert f"         untouched    {untouched} · on {OLD}" in lines


@pytest.mark.parametrize(("count", "told"), [(3, True), (40, True), (300, False)])
def test_host_that_is_taken_back_did_not_fail(count: int, told: bool) -> None:
    shown = Shown(count).play(until="push.finished")
    before = len(shown.lines)
    fields = {"reason": "web-2 failed, and max_failed is 0", "back": OLD, "started": NEW}
    shown.view.event(of("web-1", event("revert.started", 290, **fields)))
    shown.view.event(of("web-1", event("revert.finished", 291, release=OLD, ok=True)))
    lines = [line.split(maxsplit=1)[1] for line in shown.lines[before:]]
    expected = [
        f"revert  ...            web-2 failed, and max_failed is 0: back to {OLD}",
        f"revert  ok     1s      back on {OLD}",
    ]
    assert lines == (expected if told else [])


def test_host_of_which_nothing_was_heard_is_as_it_was() -> None:
    shown = Shown(3)
    hosts = [{"host": name, "status": "untouched", "release": None} for name in shown.hosts]
    shown.view.event(without_host("push.finished", status="failed", exit_code=6, hosts=hosts))
    assert shown.lines[1] == "web-1  untouched    as it was"


def test_killed_process_is_always_told() -> None:
    shown = Shown(300).play(until="drain.finished")
    shown.view.event(
        of("web-1", event("drain.finished", 9, verdict="killed", exit_code=None, waited_s=660.0, lost=[], pid=7))
    )
    assert any(line.startswith("web-1    drain   KILLED 11m") for line in shown.lines)


def test_same_warning_of_many_hosts_is_told_once_with_their_number() -> None:
    shown = Shown(300).play(until="batch.finished")
    for host in shown.hosts:
        shown.view.event(of(host, event("warning", text="the ceiling is close")))
    shown.view.event(without_host("push.finished", status="failed", exit_code=1, hosts=[]))
    others = "web-2, web-3, web-4, web-5, web-6 and 294 more"
    assert shown.warnings == [
        "web-1: the ceiling is close",
        f"the same on 299 more hosts, {others}: the ceiling is close",
    ]


def test_quiet_view_has_one_line() -> None:
    assert Shown(300, quiet=True).play({"web-7": "failed"}).lines == ["fail     hosts differ · 75/300 hosts as wished"]


# what moves ----------------------------------------------------------------------------------------------------------


def test_totals_and_the_longest_drains_move_on_a_terminal() -> None:
    shown = Shown(300, terminal=True).play(until="drain.finished", skip=1)
    rows = shown.rows()
    shown.view.close()
    assert len(rows) == 6
    assert rows[0].startswith("web-2    drain   callClaude 4m43s")
    assert rows[-2].strip() == "… and 71 more drains"
    assert rows[-1] == "all      1/300 done · 75 draining · batch 2/5"
    assert all(len(row) <= 100 for row in rows)


def test_up_to_four_uploads_have_a_bar_each_and_more_are_summed() -> None:
    few, many = Shown(3, terminal=True), Shown(300, terminal=True)
    for shown in (few, many):
        shown.play(until="stage.finished", skip=1)
    rows = [few.rows(), many.rows()]
    few.view.close(), many.view.close()
    assert rows[0] == [f"web-{n}  upload                 ███░░░░░░░░░ 500 kB of 2.0 MB · 100 kB/s" for n in (2, 3)]
    assert rows[1][0] == "upload   ███░░░░░░░░░ 38 MB of 150 MB · 7.5 MB/s · to 75 hosts"


def test_drain_whose_link_is_lost_does_not_look_as_if_it_moved() -> None:
    shown = Shown(3, terminal=True).play(until="drain.finished", skip=1)
    shown.now += 10
    before = shown.rows()
    shown.view.event(of("web-2", event("link.lost")))
    shown.now += 60
    after = shown.rows()
    shown.view.close()
    row = next(row for row in after if row.startswith("web-2"))
    assert row.endswith("not heard of for 1m")
    assert "callClaude 4m53s" in row
    assert next(row for row in before if row.startswith("web-2")).endswith("41s of 11m")
    assert next(row for row in after if row.startswith("web-3")).endswith("1m41s of 11m")


def test_lost_links_of_many_hosts_are_counted() -> None:
    shown = Shown(300, terminal=True).play(until="drain.finished", skip=1)
    for host in shown.hosts[1:50]:
        shown.view.event(of(host, event("link.lost")))
    rows = shown.rows()
    shown.view.close()
    assert rows[-1] == "all      1/300 done · 75 draining · 49 links lost, the deploys go on · batch 2/5"
    assert not any("link" in line for line in shown.lines if line.startswith("web-"))


def test_off_a_terminal_an_upload_says_how_it_goes_every_ten_seconds() -> None:
    now, lines = 100.0, list[str]()
    moving = Progress(lines.append, Layout(("web-1",)), clock=lambda: now)
    for _ in range(250):
        sent = int((now - 100) * 1_000_000)
        moving.note(of("web-1", event("upload.progress", bytes_sent=sent, bytes_total=25_000_000, rate_bps=1e6)))
        now += 0.1
    moving.note(of("web-1", event("upload.finished", bytes_sent=25_000_000, took_s=25.0)))
    assert [line.split(maxsplit=2)[2] for line in lines] == ["10 MB of 25 MB · 1.0 MB/s", "20 MB of 25 MB · 1.0 MB/s"]


def test_off_a_terminal_the_totals_come_every_half_minute() -> None:
    shown = Shown(300).play(until="drain.finished", skip=1)
    for _ in range(100):
        shown.now += 1
        shown.view.event(of("web-2", progress(40.0)))
    totals = [line for line in shown.lines if line.startswith("all ")]
    assert totals == ["all      1/300 done · 75 draining · batch 2/5"] * 3


def test_host_is_counted_where_it_is() -> None:
    tally = Tally()
    for one in rollout(names(4), {"web-2": "reverted", "web-4": "unreachable"}):
        tally.note(one)
    assert tally.text() == "2/4 done · 1 reverted · 1 unreachable · batch 2/2"
