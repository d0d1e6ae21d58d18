"""The app's log: rotated without the app noticing, read from the end, followed over a rotation."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from app import wait_until
from deployer.host import logs
from deployer.host.following import follow_log


def test_rotation_keeps_the_old_lines_and_the_writer_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    writer = logs.open_output(path)
    os.write(writer, b"one\n" * 10)
    assert logs.rotate(path, max_bytes=20)
    os.write(writer, b"two\n")
    os.close(writer)
    assert path.read_bytes() == b"two\n"
    assert path.with_name("app.log.1").read_bytes() == b"one\n" * 10
    assert (path.stat().st_mode & 0o777, path.with_name("app.log.1").stat().st_mode & 0o777) == (0o600, 0o600)


def test_no_more_than_so_many_rotated_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    for number in range(5):
        path.write_text(f"{number}" * 30)
        logs.rotate(path, max_bytes=20, kept=3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["app.log", "app.log.1", "app.log.2", "app.log.3"]
    assert [path.with_name(f"app.log.{age}").read_text()[0] for age in (1, 2, 3)] == ["4", "3", "2"]


def test_small_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    assert not logs.rotate(path)
    path.write_text("x")
    assert not logs.rotate(path) and [file.name for file in tmp_path.iterdir()] == ["app.log"]


def test_log_that_cannot_be_copied_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.log"
    path.write_text("x" * 30)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "_copy", full)
    with pytest.raises(OSError, match="No space"):
        logs.rotate(path, max_bytes=20)
    assert path.read_text() == "x" * 30 and [file.name for file in tmp_path.iterdir()] == ["app.log"]


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        (b"a\nb\nc\n", 2, ["b", "c"]),
        (b"a\nb\nunfinished", 2, ["b", "unfinished"]),
        (b"10%\r20%\r30%\nnext\r\n", 2, ["10%\r20%\r30%", "next"]),
        (b"caf\xc3\xa9\n\xff\xfe\n", 5, ["café", "\ufffd\ufffd"]),
        (b"a\n", 0, []),
        (b"", 3, []),
    ],
)
def test_tail_gives_the_last_lines(tmp_path: Path, content: bytes, lines: int, expected: list[str]) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(content)
    assert logs.tail(path, lines) == expected


def test_tail_begins_where_the_instance_began_unless_the_log_was_rotated_since(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"old\nnew\n")
    assert logs.tail(path, 5, offset=4) == ["new"]
    assert logs.tail(path, 5, offset=400) == ["old", "new"]
    assert logs.tail(tmp_path / "none", 5) == []


class Client:
    """Takes what `follow_log` sends, in a thread, until `close`."""

    def __init__(self, path: Path, lines: int, follow: bool = True) -> None:
        self.said = b""
        ours, self._client = os.pipe()
        self._thread = threading.Thread(target=follow_log, args=(path, lines, follow, self._take, ours), daemon=True)
        self._thread.start()

    def _take(self, piece: object) -> None:
        assert isinstance(piece, bytes)
        self.said += piece

    def close(self) -> None:
        os.close(self._client)
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_last_lines_come_from_the_rotated_file_too(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.with_name("app.log.1").write_bytes(b"one\ntwo\n")
    path.write_bytes(b"three\n\xffour")
    client = Client(path, 3, follow=False)
    client._thread.join(60)
    assert client.said == b"two\nthree\n\xffour"


def test_follower_sees_every_line_once_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    writer = logs.open_output(path)
    os.write(writer, b"before\nlast\n")
    client = Client(path, 1)
    wait_until(lambda: client.said == b"last\n", what="the end of the log")
    os.write(writer, b"x" * 50 + b"\n")
    wait_until(lambda: client.said.endswith(b"x\n"), what="what was appended")
    assert logs.rotate(path, max_bytes=20)
    os.write(writer, b"after\n")
    wait_until(lambda: client.said.endswith(b"after\n"), what="what came after the rotation")
    os.close(writer)
    client.close()
    assert client.said == b"last\n" + b"x" * 50 + b"\nafter\n"


def test_follower_may_come_before_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    client = Client(path, 10)
    path.write_bytes(b"first\n")
    wait_until(lambda: client.said, what="the first line")
    client.close()
    assert client.said == b"first\n"
