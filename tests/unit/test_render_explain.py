"""One deploy as a timeline for a person: 80 columns, safe for a terminal, the long waits plain to see."""

from __future__ import annotations

from cli_fakes import NEW, OLD, entry, explained

from deployer.cli.render.explain import explain_lines
from deployer.cli.render.paint import Paint

EXPECTED = f"""\
20261121T201500Z-push-9f3c · 2026-11-21 20:15:00 UTC · done, exit code 0
push of {NEW} in the place of {OLD}

    0ms  asked                   push by root@dev
   1.3s  install      12s        waited for install: npm ci
    13s  drain      4m12s ██████ SIGTERM, ceiling 11m · waited for pid 8812
                                 (node api.js) to finish: callClaude (4m12s)
  4m25s  verdict                 clean exit after 4m12s, nothing lost
  4m26s  ready       0.8s        waited for 2 good answers in a row from pid
                                 9120
  4m31s  end                     done, exit code 0
                                 │ first
                                 │ second

old    what the old release printed last
       │ SIGTERM received

engine what the engine logged meanwhile
       │ 2026-11-21T20:15:00Z runner begins

time   4m31s in all: 4m12s waiting for the old process's work
"""


def test_timeline_reads_as_promised() -> None:
    lines = explain_lines({"hosts": [explained()]}, Paint())
    assert "\n".join([*lines, ""]) == EXPECTED
    assert max(map(len, lines)) <= 80


def test_colour_changes_no_word() -> None:
    plain = explain_lines({"hosts": [explained()]}, Paint())
    painted = "\n".join(explain_lines({"hosts": [explained()]}, Paint(True)))
    for code in ("0", "1", "1;31", "33"):
        painted = painted.replace(f"\x1b[{code}m", "")
    assert painted.splitlines() == plain


def test_nothing_from_a_log_or_an_event_reaches_the_terminal_as_a_command() -> None:
    wild = explained()
    wild["timeline"].append(entry(1.0, "moon\x1b[2J", "text\x1b[31m\r\nnext", 1.0, "pid 1 (\x1b]0;x\x07sh)"))
    wild["logs"]["new"] = ["\x9b2Jred\x1b[31m", "tab\there"]
    wild["waits"]["summary"] = "1s\x1b[2J"
    wild["deploy"]["deploy"] = "d1\x1b[2J"
    shown = "\n".join(explain_lines({"hosts": [wild]}, Paint()))
    assert not any((ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0 for char in shown)


def test_deploy_under_way_says_so_far() -> None:
    going = explained()
    going["deploy"].update(ended_at=None, status=None, exit_code=None)
    going["timeline"] = [{**entry(0.0, "drain", "SIGTERM", 9.0, "pid 1 to exit"), "so_far": True}]
    lines = explain_lines({"hosts": [going]}, Paint())
    assert lines[0].endswith(" · under way")
    assert lines[3].endswith("SIGTERM · waiting for pid 1 to exit, so far")


def test_several_hosts_are_told_apart() -> None:
    lines = explain_lines({"hosts": [explained(), {**explained(), "host": "web2"}]}, Paint())
    assert [line for line in lines if line in ("local", "web2")] == ["local", "web2"]
