"""Archives: what is unpacked is what was packed, and nothing hostile or damaged gets through."""

import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from data_sets import pack, tar_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repositories import contents

from ndpnet.data.importing.opening import archive_stem, unpack

EVERY_KIND = pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@EVERY_KIND
def test_unpacks_what_was_packed_whatever_it_is_called(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "packed"
    for name, content in (("a.png", b"a" * 5000), ("b/ü ß.png", b""), ("b/c/d.png", b"d" * 512)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    unpack(pack(tmp_path / f"x.{ending}", folder).rename(tmp_path / "x"), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(folder)


def test_names_of_archives() -> None:
    names = {"Carpet.TAR.XZ": "Carpet", "v1.2.zip": "v1.2", "carpet.png": "carpet.png"}
    assert {name: archive_stem(name) for name in names} == names


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (named("a/../../x.png"), "outside the destination"),
        (named(".."), "outside the destination"),
        (named("x.png", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (named("x.png", tarfile.LNKTYPE, "y.png"), "is a link"),
        (named("x.png", tarfile.CHRTYPE), "is a special file"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else None,
)
def test_a_hostile_member_of_a_tar_is_refused_by_name(tmp_path: Path, member: tarfile.TarInfo, message: str) -> None:
    archive = tar_of(tmp_path / "x.tar", (named("good.png"), b"good"), (member, b""))
    with pytest.raises(ValueError, match=message) as caught:
        unpack(archive, tmp_path / "out")
    assert str(caught.value).startswith(f"{archive} is refused: {member.name!r}")
    assert contents(tmp_path).keys() == {"x.tar", "out/good.png"}


@pytest.mark.parametrize("name", ["/x.png", "..\\x.png", "C:\\x.png"])
def test_a_name_that_leads_elsewhere_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(name, "x")
        packed.writestr(link, "/etc/passwd")
    unpack(tmp_path / "x.zip", tmp_path / "out")
    tar_of(tmp_path / "x.tar", (named(name), b"x"))
    unpack(tmp_path / "x.tar", tmp_path / "tar")
    assert {path.name for path in tmp_path.iterdir()} <= {"x.zip", "x.tar", "out", "tar"}
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert (tmp_path / "out/link.png").read_text() == "/etc/passwd"


@pytest.mark.parametrize(("name", "system"), [("a/../../x.png", 3), ("..\\x.png", 0)])
def test_a_zip_that_would_write_elsewhere_is_refused(tmp_path: Path, name: str, system: int) -> None:
    member = zipfile.ZipInfo(name)
    member.create_system = system
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(member, "x")
    with pytest.raises(ValueError, match=r"x\.zip is refused: '.*\.\./x\.png' lies outside the destination"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert contents(tmp_path).keys() == {"x.zip"}


@pytest.mark.parametrize("system", [0, 3])
def test_a_backslash_parts_folders_in_zips_of_windows_alone(tmp_path: Path, system: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in ("top\\good\\1.png", "2.png"):
            member = zipfile.ZipInfo(name)
            member.create_system = system
            packed.writestr(member, name)
    unpack(tmp_path / "x.zip", tmp_path / "out")
    expected = {0: {"top/good/1.png", "2.png"}, 3: {"top\\good\\1.png", "2.png"}}
    assert contents(tmp_path / "out").keys() == expected[system]
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip", "out"}


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("a", "a/b.png"), ("a/b.png", "a")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_clash_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    tar_of(tmp_path / "x.tar", *((named(name), b"x") for name in names))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    for number, archive in enumerate(("x.tar", "x.zip")):
        with pytest.raises(ValueError, match=rf"{archive} is refused: "):
            unpack(tmp_path / archive, tmp_path / str(number))


@EVERY_KIND
def test_a_bomb_stops_at_the_limit(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "zeros").write_bytes(bytes(5_000_000))
    archive = pack(tmp_path / f"x.{ending}", folder)
    with pytest.raises(ValueError, match="expands to more than 3000000 bytes"):
        unpack(archive, tmp_path / "out", max_bytes=3_000_000)
    assert sum(len(content) for content in contents(tmp_path / "out").values()) <= 3_000_000


@EVERY_KIND
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_an_archive_cut_anywhere_is_an_error(tmp_path: Path, ending: str, share: float) -> None:
    folder = tmp_path / "packed"
    if not folder.exists():
        folder.mkdir()
        for number in range(6):
            (folder / f"{number}.png").write_bytes(bytes([number]) * 700 * number)
    whole = tmp_path / f"x.{ending}"
    content = pack(whole, folder).read_bytes()
    # a plain tar ends in zeros that say nothing: cut there, it is still whole
    end = len(content.rstrip(b"\0")) if ending == "tar" else len(content)
    whole.write_bytes(content[: int(end * share)])
    with pytest.raises(ValueError, match=r"is damaged or no archive: .+ \(fetch it again\)"):
        unpack(whole, tmp_path / f"out{len(list(tmp_path.iterdir()))}")
