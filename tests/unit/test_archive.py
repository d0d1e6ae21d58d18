from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from release_files import small_disk

from deployer.artifact import open_artifact
from deployer.errors import GateError
from deployer.manifest import Entry, Manifest

Item = tuple[str, bytes, bytes | str]  # name, tar type, content or link target


def make_tar(path: Path, items: Iterable[Item], mode: str = "w", modes: int = 0o640) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, kind, content in items:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, modes
            if isinstance(content, str):
                info.linkname = content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def make_zip(path: Path, *members: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, attributes in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = (3 if attributes else 0), attributes << 16
            archive.writestr(info, content)
    return path


def contents(path: Path, *exclude: str, limit: int = 1 << 30) -> dict[str, tuple[Entry, bytes]]:
    with open_artifact(path, exclude, limit) as artifact:
        assert Manifest.from_json(artifact.manifest.to_json()) == artifact.manifest
        return {
            entry.path: (entry, artifact.open(entry).read() if entry.type == "f" else b"")
            for entry in artifact.manifest.entries
        }


def refused(path: Path, member: str = "", limit: int = 1 << 30) -> GateError:
    before = {str(one) for one in path.parent.rglob("*")}
    with pytest.raises(GateError) as caught, open_artifact(path, [], limit):
        raise AssertionError("it was opened")
    error = caught.value
    assert error.code == 7 and error.state and error.hint
    assert member in error.title
    assert {str(one) for one in path.parent.rglob("*")} == before
    return error


DAMAGED = "is truncated, damaged or no archive"
LEFT_OUT = "holds a member that is not unpacked"
FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("A.TGZ", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")],
)
def test_every_tar_is_unpacked_with_modes_links_and_parents(tmp_path: Path, name: str, mode: str) -> None:
    items: list[Item] = [
        ("./", DIR, b""),
        ("./sub//a", FILE, b"content"),
        ("b", HARD, "sub/a"),
        ("l", LINK, "sub/../sub/a"),
        ("empty/", DIR, b""),
        ("caf\udce9", FILE, b"x" * 3_000_000),
    ]
    found = contents(make_tar(tmp_path / name, items, mode))
    assert sorted(found) == ["b", "caf\udce9", "empty", "l", "sub", "sub/a"]
    assert found["sub/a"][1] == found["b"][1] == b"content"
    assert found["sub/a"][0].mode == 0o640 and found["sub"][0].mode == 0o755
    assert found["l"][0].target == "sub/../sub/a"
    assert found["caf\udce9"][1] == b"x" * 3_000_000


def test_a_zip_keeps_exec_bits_and_links_and_gives_the_rest_usual_modes(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "a.zip",
        ("bin/run", b"#!", stat.S_IFREG | 0o755),
        ("bin/also", b"run", stat.S_IFLNK | 0o777),
        ("plain", b"p", 0),
        ("d/", b"", stat.S_IFDIR | 0o700),
        ("é", b"", stat.S_IFREG | 0o600),
    )
    found = contents(path)
    assert {name: entry.mode for name, (entry, _) in found.items() if entry.type != "l"} == {
        "bin": 0o755,
        "bin/run": 0o755,
        "plain": 0o644,
        "d": 0o700,
        "é": 0o600,
    }
    assert found["bin/also"][0].target == "run"


def test_a_utf8_name_without_the_flag_is_read_as_utf8(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("ab", b"1", 0))
    path.write_bytes(path.read_bytes().replace(b"ab", "é".encode()))
    assert list(contents(path)) == ["é"]


def test_a_wheel_is_its_files_and_exclude_applies(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "app-1-py3-none-any.whl", ("app/__init__.py", b"", 0), ("app-1.dist-info/RECORD", b"r", 0)
    )
    assert list(contents(path, "*.dist-info/")) == ["app", "app/__init__.py"]


def test_exclude_in_an_archive_does_not_enter_directories(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [("src/a", FILE, b""), ("src-b", FILE, b""), ("src/keep", FILE, b"")])
    assert list(contents(path, "/src", "!/src/keep")) == ["src-b"]


def test_the_last_member_of_a_name_counts(tmp_path: Path) -> None:
    assert contents(make_tar(tmp_path / "a.tar", [("a", FILE, b"1"), ("a", FILE, b"2")]))["a"][1] == b"2"


@pytest.mark.parametrize(
    "name", ["/abs", "../up", "a/../../up", "a/..", "C:\\x", "c:x", "a\\..\\b", "\\\\host\\x", "a\nb", "a\x1b[m"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    tar = make_tar(tmp_path / "a.tar", [("ok", FILE, b""), (name, FILE, b"x")])
    assert repr(name) in refused(tar).title
    assert repr(name) in refused(make_zip(tmp_path / "a.zip", ("ok", b"", 0), (name, b"x", 0))).title


def test_a_zip_name_with_a_nul_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("a@b", b"x", 0))
    path.write_bytes(path.read_bytes().replace(b"a@b", b"a\0b"))
    assert repr("a\0b") in refused(path).title


@pytest.mark.parametrize(
    "links",
    [
        [("l", "/etc")],
        [("l", "..")],
        [("sub/l", "../..")],
        [("sub/l1", ".."), ("l2", "sub/l1/..")],
        [("l2", "sub/l1/.."), ("sub/l1", "..")],  # the order does not matter
        [("a", "b"), ("b", "c"), ("c", "../x")],
        [("d/e/l", "../../d/e/../../..")],
        [("loop", "loop")],
        [("p", "q"), ("q", "p")],
        [("b0", "x"), *((f"b{n}", f"b{n - 1}/../b{n - 1}") for n in range(1, 30))],  # 2**30 steps
    ],
)
def test_links_that_lead_out_or_never_end_are_refused(tmp_path: Path, links: list[tuple[str, str]]) -> None:
    tar = make_tar(tmp_path / "a.tar", [(name, LINK, target) for name, target in links])
    packed = make_zip(tmp_path / "a.zip", *((name, to.encode(), stat.S_IFLNK | 0o777) for name, to in links))
    assert "it is a link" in str(refused(tar).cause)
    assert "it is a link" in str(refused(packed).cause)


def test_links_that_stay_inside_are_kept(tmp_path: Path) -> None:
    links = {"a": "sub/..", "sub/l1": "..", "l2": "sub/l1/sub", "sub/deep/l": "../../gone", "dangling": "no/such"}
    found = contents(make_tar(tmp_path / "a.tar", [(name, LINK, target) for name, target in links.items()]))
    assert {name: entry.target for name, (entry, _) in found.items() if entry.type == "l"} == links


@pytest.mark.parametrize(
    "items",
    [
        [("d", LINK, "."), ("d/x", FILE, b"x")],
        [("d/x", FILE, b"x"), ("d", LINK, ".")],
        [("d", FILE, b""), ("d/x", FILE, b"x")],
        [("d", LINK, "sub"), ("sub", DIR, b""), ("d/e/f", DIR, b"")],
        [("d", DIR, b""), ("d", LINK, "/tmp"), ("d/x", FILE, b"x")],
        [("d", FILE, b""), ("d/", DIR, b"")],
        [(".", LINK, "/tmp"), ("x", FILE, b"")],
    ],
)
def test_members_through_links_or_of_two_kinds_are_refused(tmp_path: Path, items: list[Item]) -> None:
    assert LEFT_OUT in refused(make_tar(tmp_path / "a.tar", items)).title


@pytest.mark.parametrize("kinds", [(FILE, LINK), (LINK, FILE), (DIR, FILE), (DIR, LINK)])
def test_a_member_of_two_kinds_is_refused_even_if_nothing_is_below_it(
    tmp_path: Path, kinds: tuple[bytes, bytes]
) -> None:
    items: list[Item] = [("d", kind, "ok" if kind == LINK else b"") for kind in kinds]
    assert "twice" in str(refused(make_tar(tmp_path / "a.tar", [("ok", FILE, b""), *items]), "'d'").cause)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "later", "missing", "d", "l/x"])
def test_hard_links_to_anything_but_an_earlier_file_are_refused(tmp_path: Path, target: str) -> None:
    items: list[Item] = [
        ("d", DIR, b""),
        ("l", LINK, "d"),
        ("d/x", FILE, b""),
        ("h", HARD, target),
        ("later", FILE, b""),
    ]
    assert LEFT_OUT in refused(make_tar(tmp_path / "a.tar", items)).title


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_fifos_and_unknown_kinds_are_refused(tmp_path: Path, kind: bytes) -> None:
    error = refused(make_tar(tmp_path / "a.tar", [("ok", FILE, b""), ("odd", kind, b"")]), "'odd'")
    assert "a device, a fifo or of an unknown kind" in str(error.cause)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_special_members_of_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    error = refused(make_zip(tmp_path / "a.zip", ("odd", b"", kind | 0o644)), "'odd'")
    assert "a device, a fifo or of an unknown kind" in str(error.cause)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("secret", b"x", 0))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    struct.pack_into("<H", data, at + 8, 1)
    path.write_bytes(data)
    assert "encrypted" in str(refused(path, "'secret'").cause)


def random_bytes(count: int) -> bytes:
    return os.urandom(count)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_tar_is_refused_wherever_it_ends(tmp_path: Path, mode: str, share: float) -> None:
    items: list[Item] = [(f"f{number}", FILE, random_bytes(3000)) for number in range(20)]
    path = make_tar(tmp_path / "a.tar", items, mode)
    size = 20 * (512 + 3072) if mode == "w" else path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(size * share)])
    assert DAMAGED in refused(path).title


def test_a_tar_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [("a", FILE, b"1"), ("b", FILE, b"2")])
    path.write_bytes(path.read_bytes()[:1024])
    assert "truncated" in refused(path).title


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [("a", FILE, b"1"), ("b", FILE, b"2"), ("c", FILE, b"3")])
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 0xFF
    path.write_bytes(data)
    assert DAMAGED in refused(path).title


def test_a_damaged_checksum_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tgz", [("a", FILE, b"1")], "w:gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 0xFF
    path.write_bytes(data)
    assert DAMAGED in refused(path).title


@pytest.mark.parametrize("name", ["a.zip", "a.whl", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"not an archive", b"\x1f\x8b\x08", random_bytes(2000)):
        (tmp_path / name).write_bytes(content)
        assert DAMAGED in refused(tmp_path / name).title


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("a", random_bytes(5000), 0), ("b", random_bytes(5000), 0))
    whole = path.read_bytes()
    for data in (whole[:3000], whole[3000:], whole[:2000] + b"\0" * 100 + whole[2100:]):
        path.write_bytes(data)
        assert refused(path).code == 7


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    assert "empty" in refused(make_tar(tmp_path / "a.tar", [("d", DIR, b"")])).title
    assert "empty" in refused(make_zip(tmp_path / "a.zip")).title


def test_a_bomb_is_refused_at_the_limit(tmp_path: Path) -> None:
    zeros = bytes(3_000_000)
    zipped = make_zip(tmp_path / "a.zip", ("a", zeros, 0), ("b", zeros, 0))
    tarred = make_tar(tmp_path / "a.tgz", [("a", FILE, zeros), ("b", FILE, zeros)], "w:gz")
    for path in (zipped, tarred):
        assert len(contents(path, limit=6_000_000)) == 2
        assert "6,000,000" not in str(refused(path, "'b'", limit=5_999_999).cause)
        assert "5,999,999" in str(refused(path, limit=5_999_999).cause)


def test_a_sparse_tar_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse"}
    info.pax_headers |= {"GNU.sparse.size": str(1 << 42), "GNU.sparse.numblocks": "0", "GNU.sparse.map": "0,0"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    assert "10,000,000" in str(refused(tmp_path / "a.tar", limit=10_000_000).cause)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 64 << 20
        tar.addfile(info, io.BytesIO(bytes(64 << 20)))
    assert "a header of" in str(refused(tmp_path / "a.tgz").cause)


def test_never_more_than_the_free_space_of_the_temp_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "a.zip", ("big", bytes(2_000_000), 0))
    with small_disk(tmp_path / "small") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        assert "free space" in str(refused(path, "'big'").cause)


def test_nothing_is_left_behind_in_the_temp_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with open_artifact(make_tar(tmp_path / "a.tar", [("a", FILE, b"1")]), []) as artifact:
        assert artifact.open(artifact.manifest.files[0]).read() == b"1"
        assert list((tmp_path / "tmp").iterdir()) == []


def test_readers_of_one_archive_do_not_disturb_each_other(tmp_path: Path) -> None:
    items: list[Item] = [("a", FILE, b"a" * 100), ("b", FILE, b"b" * 100)]
    with open_artifact(make_tar(tmp_path / "a.tar", items), []) as artifact:
        one, other = (artifact.open(entry) for entry in artifact.manifest.files)
        assert [one.read(1), other.read(1), one.read(), other.read(), one.read()] == [
            b"a",
            b"b",
            b"a" * 99,
            b"b" * 99,
            b"",
        ]
