from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from deployer.artifact import open_artifact
from deployer.errors import GateError, UsageError
from deployer.manifest import Manifest


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).write_text(path)
    return root


def paths(root: Path, *exclude: str) -> list[str]:
    with open_artifact(root, exclude) as artifact:
        return [entry.path for entry in artifact.manifest.entries]


def refused(path: Path, *exclude: str) -> GateError:
    with pytest.raises(GateError) as caught, open_artifact(path, exclude):
        raise AssertionError("it was opened")
    assert caught.value.code == 7
    assert caught.value.state and caught.value.hint
    return caught.value


def test_a_directory_keeps_files_modes_links_and_empty_directories(tmp_path: Path) -> None:
    root = tree(tmp_path / "dist", "a", "d/b", "empty/")
    (root / "a").chmod(0o4750)
    (root / "empty").chmod(0o700)
    (root / "link").symlink_to("../outside")
    (root / "dirlink").symlink_to("d")
    (root / "abs").symlink_to("/etc/passwd")
    with open_artifact(root, []) as artifact:
        found = {entry.path: entry for entry in artifact.manifest.entries}
        assert sorted(found) == ["a", "abs", "d", "d/b", "dirlink", "empty", "link"]
        assert (found["a"].mode, found["empty"].mode, found["a"].size) == (0o750, 0o700, 1)
        assert [found[name].target for name in ("link", "dirlink", "abs")] == ["../outside", "d", "/etc/passwd"]
        with artifact.open(found["d/b"]) as file:
            assert file.read() == b"d/b"
        assert Manifest.from_json(artifact.manifest.to_json()) == artifact.manifest


def test_a_link_to_the_artifact_is_followed(tmp_path: Path) -> None:
    tree(tmp_path / "dist", "a")
    (tmp_path / "latest").symlink_to("dist")
    assert paths(tmp_path / "latest") == ["a"]


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    tmp_path.joinpath(os.fsdecode(b"\xff\xfe")).write_text("x")
    assert paths(tmp_path, "*.pyc", "b?") == [os.fsdecode(b"\xff\xfe")]


def test_a_name_with_a_control_character_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J").write_text("x")
    assert "control character" in str(refused(tmp_path).cause)


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ([".git/"], ["a.pyc", "keep.pyc", "src", "src/.gitignore", "src/b.pyc", "src/c"]),
        (["*.pyc", "!keep.pyc"], [".git", ".git/HEAD", "keep.pyc", "src", "src/.gitignore", "src/c"]),
        (["/src", "!/src/c"], [".git", ".git/HEAD", "a.pyc", "keep.pyc"]),
        (["/src/*", "!/src/c"], [".git", ".git/HEAD", "a.pyc", "keep.pyc", "src", "src/c"]),
        (["# a comment", "", "**/*.pyc", ".git"], ["src", "src/.gitignore", "src/c"]),
    ],
)
def test_exclude_is_gitignore(tmp_path: Path, exclude: list[str], expected: list[str]) -> None:
    tree(tmp_path, ".git/HEAD", "a.pyc", "keep.pyc", "src/b.pyc", "src/c", "src/.gitignore")
    assert paths(tmp_path, *exclude) == expected


def test_a_directory_pattern_does_not_match_a_link(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    (tmp_path / "node_modules").symlink_to("/opt/node_modules")
    assert paths(tmp_path, "node_modules/") == ["a", "node_modules"]


def test_an_excluded_directory_is_not_entered(tmp_path: Path) -> None:
    tree(tmp_path, "a", "run/")
    os.mkfifo(tmp_path / "run" / "pipe")
    assert paths(tmp_path, "run/") == ["a"]


def test_a_bad_pattern_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError), open_artifact(tree(tmp_path, "a"), ["!"]):
        pass


def test_sockets_and_fifos_are_refused_by_name(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    assert "'pipe'" in refused(tmp_path).title
    assert "exclude" in str(refused(tmp_path).hint)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "sock"))
        assert "'sock'" in refused(tmp_path, "pipe").title
    assert paths(tmp_path, "pipe", "sock") == ["a"]


def test_what_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    assert "no artifact" in refused(tmp_path / "nowhere").title
    assert "empty" in refused(tree(tmp_path, "only/directories/")).title
    assert "empty" in refused(tree(tmp_path, "a"), "*").title
    assert refused(Path("/dev/null"))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "log")
    real = os.read

    def growing(fd: int, count: int) -> bytes:
        with (tmp_path / "log").open("a") as file:
            file.write("more")
        return real(fd, 1)

    monkeypatch.setattr("deployer.artifact.CHUNK", 1)
    monkeypatch.setattr(
        "deployer.artifact.os.read", lambda fd, count: growing(fd, count) if grows() else real(fd, count)
    )
    count = iter([True])

    def grows() -> bool:
        return next(count, False)

    assert "changed while it was read" in refused(tmp_path).title


def test_a_file_that_changed_since_is_not_sent(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    with open_artifact(tmp_path, []) as artifact:
        (tmp_path / "a").write_text("b")
        os.utime(tmp_path / "a", (1, 1))
        with pytest.raises(GateError, match="changed"):
            artifact.open(artifact.manifest.files[0])
        (tmp_path / "a").unlink()
        (tmp_path / "a").symlink_to("/etc/passwd")
        with pytest.raises(GateError):
            artifact.open(artifact.manifest.files[0])


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "secret")

    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("deployer.artifact.os.open", denied)
    assert "'secret' could not be read" in refused(tmp_path).title


def test_a_single_file_keeps_its_name_and_mode(tmp_path: Path) -> None:
    tree(tmp_path, "store/server-1.2").chmod(0o755)
    (tmp_path / "store/server-1.2").chmod(0o711)
    (tmp_path / "server").symlink_to("store/server-1.2")
    with open_artifact(tmp_path / "server", ["*"]) as artifact:
        (entry,) = artifact.manifest.entries
        assert (entry.path, entry.type, entry.mode) == ("server", "f", 0o711)
        assert artifact.open(entry).read() == b"store/server-1.2"


def test_a_tree_too_deep_to_be_deleted_again_is_refused(tmp_path: Path) -> None:
    deepest = "/".join(["d"] * 254)
    assert paths(tree(tmp_path, f"{deepest}/f"))[-1] == f"{deepest}/f"
    assert "deep" in str(refused(tree(tmp_path, f"{deepest}/d/f")).cause)


def test_5000_files_do_not_take_long(tmp_path: Path) -> None:
    for directory in range(50):
        (tmp_path / f"d{directory}").mkdir()
        for number in range(100):
            (tmp_path / f"d{directory}/{number}.py").write_bytes(b"%d" % number * 100)
    began = time.process_time()  # the wall clock is everybody's
    assert len(paths(tmp_path, "*.pyc", ".git/")) == 5050
    assert time.process_time() - began < 5
