"""What lasts longer than a release, as docs/guides/long-connections.md has it: finished or told, never cut."""

from __future__ import annotations

import json
from pathlib import Path

from guide import Guide, guide
from long_clients import Asked, WebSocket
from servers import servers

from app import wait_until


def test_what_lasts_longer_than_a_release_is_finished_or_told_and_never_cut(tmp_path: Path) -> None:
    with guide(tmp_path, "long-connections.md", servers()) as app:
        app.push()
        old = app.current()
        app.release("v2")
        with (
            Asked(app.port, "/upload", "POST", "Transfer-Encoding: chunked\r\n") as upload,
            Asked(app.port, "/events") as events,
            Asked(app.port, "/poll") as poll,
            WebSocket(app.port) as talk,
        ):
            assert upload.head()[0] == events.head()[0] == 200
            assert _received(upload, b"12345") == {"received": 5, "release": old}
            assert events.piece() == b"retry: 100\n\n" and str(old).encode() in events.piece()
            talk.say("hello")
            assert talk.hear() == f"{old} hello"

            app.push("--detach")
            new = app.current()
            assert talk.hear() == 1001
            assert app.get()["release"] == new != old  # it serves, alone, while the others are still under way
            with WebSocket(app.port) as again:
                again.say("hello")
                assert again.hear() == f"{new} hello"
            while events.piece():
                pass  # ended properly, or this fails
            status, headers = poll.head()
            assert (status, headers["connection"]) == (204, "close")
            assert [one["release"] for one in app.status()["draining"]] == [old]
            assert _received(upload, b"67890") == {"received": 10, "release": old}
            upload.send_piece(b"")
            while upload.piece():
                pass
        wait_until(lambda: _verdicts(app)[:1] == ["clean"], what="the old release has ended well")


def _received(upload: Asked, data: bytes) -> dict[str, object]:
    upload.send_piece(data)
    said: dict[str, object] = json.loads(upload.piece())
    return said


def _verdicts(app: Guide) -> list[str]:
    """Of the drains, newest deploy first."""
    deploys = app.run("history", "--json", check=0).events[0]["hosts"][0]["deploys"]
    return [drain["verdict"] for deploy in deploys for drain in deploy["drains"]]
