"""Whatever lies in a folder: `inspect` judges a file or says that it did not, and changes nothing but its output."""

import json
import logging
import os
import shutil
import tempfile
from functools import cache
from logging.handlers import BufferingHandler
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import Brightness
from PIL import Image
from users import as_nobody, open_folder

from ndpnet.data.listing import list_images
from ndpnet.folders import LIST
from ndpnet.inference import Inspector
from ndpnet.inference.folder import inspect_folder

SIDE = 64
FOLDERS = (
    ".",
    "a",
    "a/b",
    "a/.hidden",
    "ground_truth/x",
    "verdicts",
    "verdicts/overlays",
    "results",
    "closed",
    "ü 1.png",
)
NAMES = (
    *("p.png", "P.PNG", "q.jpg", "r.tif", "no ending", "notes.txt", ".hidden.png", "Thumbs.db", "photo.heic"),
    *("=1+1\n.png", os.fsdecode(b"\xff.png"), f"{'n' * 250}.png", "a%20b#c.png", "p.png.jpg", "..png"),
)
DARK, BRIGHT = "dark picture", "bright picture"
KINDS = (
    *(DARK, BRIGHT, "text", "empty", "half a picture", "pipe"),
    *(
        "link to a bright picture",
        "link to nowhere",
        "link to itself",
        "link to a folder elsewhere",
        "link to the root",
    ),
)
SET_APART = {"ground_truth", "verdicts", "results", "closed", ".hidden"}
ENTRY = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES), st.sampled_from(KINDS))


def picture(level: int) -> Image.Image:
    return Image.fromarray(np.full((SIDE, 80, 3), level, dtype=np.uint8))


def make_entry(path: Path, kind: str, outside: Path, root: Path) -> None:
    """Make what `kind` says; nothing where something is already, or where a file is in the way."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return
    targets = {
        "link to a bright picture": outside / "bright.png", "link to nowhere": outside / "none.png",
        "link to itself": path, "link to a folder elsewhere": outside, "link to the root": root,
    }  # fmt: skip
    if kind in targets:
        path.symlink_to(targets[kind])
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in (DARK, BRIGHT):
        picture(250 if kind == BRIGHT else 20).save(path, format="PNG")
    else:
        whole = (outside / "bright.png").read_bytes()
        path.write_bytes({"text": b"hello", "empty": b"", "half a picture": whole[: len(whole) // 2]}[kind])


def make_tree(base: Path, entries: list[tuple[str, str, str]]) -> Path:
    root, outside = base / "pictures", base / "elsewhere"
    outside.mkdir()
    picture(250).save(outside / "bright.png")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "verdicts" / LIST).write_text(json.dumps({"marker": "predictions.jsonl", "files": {}}))
    (root / "results/predictions.jsonl").write_text("")  # of an earlier version
    for folder, name, kind in entries:
        make_entry(root / folder / name, kind, outside, root)
    (root / "closed").chmod(0o000)
    return root


def state_of(base: Path) -> dict[str, tuple[object, ...]]:
    """All that lies below a folder, with its content and times, but for the output."""
    state: dict[str, tuple[object, ...]] = {}
    for path in base.rglob("*"):
        if path.relative_to(base).parts[0] != "out":
            stat, is_link = path.lstat(), path.is_symlink()
            content = path.readlink() if is_link else path.read_bytes() if path.is_file() else None
            state[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_nlink, content)
    return state


@cache
def _import_all() -> None:
    """Inspect a picture as ourselves: what is imported late may be closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Image.new("L", (SIDE, SIDE)).save(Path(folder, "p.png"))
        inspector = Inspector(Brightness(), input_size=(SIDE, SIDE), threshold=0.5)
        inspect_folder(inspector, Path(folder, "p.png"), Path(folder, "out"))


def inspect(root: Path, out: Path) -> tuple[dict[str, dict], set[Path]]:
    """Inspect as a user whom permissions stop. -> rows by path, and what is named as no picture to judge"""
    _import_all()
    log, logger = BufferingHandler(capacity=1000), logging.getLogger("ndpnet")
    level, logger.propagate = logger.level, False  # pytest's processes tell each other what is logged, as UTF-8
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    try:
        with as_nobody():
            named = set(list_images(root)[1].others)
            inspector = Inspector(Brightness(), input_size=(SIDE, SIDE), threshold=0.5)
            result = inspect_folder(inspector, root, out)
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
        logger.propagate = True
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    rows = {row["path"]: row for row in map(json.loads, lines)}
    assert len(rows) == len(lines) == sum(result[name] for name in ("good", "defective", "error"))
    counted = [record.args[0] for record in log.buffer if record.msg.startswith("no pictures, left out: %d")]
    assert counted == ([len(named)] if named else [])  # the log has the first names of the list, and how many there are
    left_out = {record.args[0] for record in log.buffer if record.msg.startswith("left out %s")}
    return rows, named | left_out


@settings(max_examples=40, derandomize=True)
@example([("closed", "p.png", BRIGHT), ("a", "p.png", BRIGHT), ("a", "P.PNG", DARK)])
@example([("a", name, BRIGHT) for name in NAMES])
@example([("ü 1.png", f"{index}.png", kind) for index, kind in enumerate(KINDS)])
@example([(folder, "p.png", BRIGHT) for folder in FOLDERS])
@example([(folder, name, "text") for folder in FOLDERS for name in NAMES])
@given(st.lists(ENTRY, max_size=14))
def test_every_file_is_judged_or_named_and_nothing_else_changes(entries: list[tuple[str, str, str]]) -> None:
    with open_folder() as base:
        root, out = make_tree(base, [*entries, (".", "always.png", DARK)]), base / "out"
        base.chmod(0o777)
        before = state_of(base)
        rows, named = inspect(root, out)
        assert state_of(base) == before
        assert sorted(path.name for path in base.iterdir()) == ["elsewhere", "out", "pictures"]
        said = {root / path for path in rows} | named
        for path in root.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                continue
            assert said & {path, *path.parents}, path
            if SET_APART & set(path.relative_to(root).parts) or path.name[0] == "." or path.suffix.lower() != ".png":
                continue
            if path in named:  # what it leads to is judged where it lies
                assert path.resolve() == root.resolve()
                continue
            row = rows[path.relative_to(root).as_posix()]
            if not path.is_file() or _is_damaged(path):
                assert row["verdict"] == "error"
            else:
                is_bright = np.asarray(Image.open(path)).mean() > 127
                assert row["verdict"] == ("defective" if is_bright else "good"), path
        assert all((root / path).is_relative_to(root) for path in rows)
        (root / "closed").chmod(0o755)
        shutil.rmtree(out)


def _is_damaged(path: Path) -> bool:
    try:
        Image.open(path).load()
    except (OSError, SyntaxError):
        return True
    return False
