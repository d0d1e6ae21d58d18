"""Env files: what is understood, and an error that never repeats what may be a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.errors import UsageError
from deployer.host import envfile


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# a comment\n; another\n\n   \n", {}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A=1", {"A": "1"}),
        ("  A = 1  ", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=''", {"A": ""}),
        ("A=a=b=c", {"A": "a=b=c"}),
        ("A=p#q", {"A": "p#q"}),
        ("A=p #q", {"A": "p"}),
        ("A='p # q' # r", {"A": "p # q"}),
        ('A="p # q"', {"A": "p # q"}),
        (r'A="line\nnext \"x\" \\ \$HOME"', {"A": 'line\nnext "x" \\ $HOME'}),
        (r"A='line\n'", {"A": r"line\n"}),
        ("A=$HOME/x", {"A": "$HOME/x"}),
        ("A=x y z", {"A": "x y z"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=äö\u2028ü", {"A": "äö\u2028ü"}),
        ("_a9=1", {"_a9": "1"}),
    ],
)
def test_lines_are_understood_as_systemd_and_dotenv_do(text: str, values: dict[str, str]) -> None:
    assert envfile.parse(text, "app.env") == values


@pytest.mark.parametrize(
    "line", ["s3cr3t", "9A=s3cr3t", "A-B=s3cr3t", "=s3cr3t", "A='s3cr3t", 'A="s3cr3t', 'A="s3cr3t" more', "A=s3cr3t\0"]
)
def test_bad_line_is_named_by_its_number_and_never_shown(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        envfile.parse(f"# comment\nOK=1\n{line}\n", "/srv/app.env")
    error = caught.value
    assert error.code == 2
    assert "line 3 of the env file /srv/app.env" in error.title
    assert "s3cr3t" not in f"{error.title}{error.cause}{error.hint}"


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "app.env"
    path.write_bytes(b"\xef\xbb\xbfA=1\n")
    assert envfile.read(path) == {"A": "1"}


def test_missing_file_says_where_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        envfile.read(tmp_path / "app.env")
    assert str(tmp_path / "app.env") in caught.value.title
    assert caught.value.code == 2


@pytest.mark.parametrize("content", [b"A=\xff\xfe", None], ids=["not UTF-8", "a directory"])
def test_unreadable_file_is_a_config_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "app.env"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        envfile.read(path)
