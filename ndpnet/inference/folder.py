"""Inspecting files and folders: predictions as CSV and JSON lines, overlays, a page, unreadable files by name."""

import csv
import errno
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import numpy as np
from tqdm import tqdm

from ndpnet import __version__
from ndpnet.data.listing import list_images, say_others
from ndpnet.data.threads import map_in_threads, pixels_in
from ndpnet.files import as_cells, hash_of
from ndpnet.folders import atomic_folder, check_apart
from ndpnet.inference.identity import SEAL
from ndpnet.inference.overlay import draw_verdict, write_jpeg
from ndpnet.inference.verdict import Verdict
from ndpnet.inference.verdict_page import overlay_paths, write_page

if TYPE_CHECKING:
    from ndpnet.inference.inspector import Inspector

logger = logging.getLogger(__name__)

LINES = "predictions.jsonl"
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
TABLE = "predictions.csv"
COLUMNS = (
    *("path", "verdict", "score", "threshold", "threshold_source", "num_regions", "width", "height", "warning"),
    "error",
)
DIGITS = 6  # of a number in the table; the JSON lines have all
MAX_WARNINGS = 5  # that the log has one by one


def inspect_folder(inspector: "Inspector", target: Path, out_dir: Path, *, with_overlays: bool = True) -> Counter[str]:
    """Inspect a file or every image below a folder; write predictions.csv, predictions.jsonl, overlays/, index.html.

    What cannot be read or judged is a row with the error, logged and counted; the others go on. Rows are written as
    they come, into a hidden folder beside `out_dir` that replaces earlier results, whole, at the end. After a kill or a
    full disk the same call goes on where it was. -> rows by verdict; missing: of the errors, what is not there; unlike:
    the calibration pictures; skipped: files and folders that are no pictures to judge.
    """
    if inspector.threshold is None:
        raise ValueError("the model has no threshold (run `ndpnet calibrate MODEL GOOD_IMAGES`, or pass --threshold)")
    if Path(out_dir).resolve() == Path(target).resolve():
        raise ValueError(f"{target} is both the input and the output (choose another --out)")
    check_apart(out_dir, target, *([inspector.package.folder] if inspector.package else []))
    root, listing = list_images(target)
    say_others(listing.others)
    paths = sorted([*listing.pictures, *listing.problems])
    key = _task_key(inspector, root, paths, with_overlays)
    try:
        with atomic_folder(out_dir, marker=LINES, key=key) as folder:
            rows = _finished_rows(folder / LINES)
            if rows:
                logger.info("going on after %d of %d pictures", len(rows), len(paths))
            logger.info("rows appear in %s as they come", folder / TABLE)
            work = _Work(inspector, root, listing.problems, folder / "overlays" if with_overlays else None)
            with _open_text(folder / LINES, "a") as lines, _open_text(folder / TABLE, "w") as table:
                writer = start_table(table)
                writer.writerows(map(table_row, rows))
                num_unlike = sum(bool(row.get("warnings")) for row in rows)
                for row in _inspect_all(work, paths[len(rows) :]):
                    rows.append(row)
                    lines.write(json.dumps(row, sort_keys=True) + "\n")
                    lines.flush()  # a row that was written is not computed again
                    writer.writerow(table_row(row))
                    table.flush()
                    num_unlike += bool(row.get("warnings"))
                    _warn(row, num_unlike)
            write_page(folder, rows, inspector, title=root.resolve().name)
    except OSError as error:
        raise ValueError(f"cannot write to {out_dir}: {error.strerror or error} (choose another --out)") from error
    return _count(rows, root, len(listing.others) + len(listing.left_out))


def _count(rows: list[dict[str, Any]], root: Path, num_skipped: int) -> Counter[str]:
    counts = Counter(row["verdict"] for row in rows)
    counts["missing"] = sum(row["verdict"] == "error" and _is_missing(root / row["path"]) for row in rows)
    counts["unlike"] = sum(bool(row.get("warnings")) for row in rows)
    counts["skipped"] = num_skipped
    return counts


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)  # another one is there, and not to be read
    return False


def _warn(row: dict[str, Any], num_unlike: int) -> None:
    """Say that a picture is unlike those of the calibration; of many the first ones."""
    if row.get("warnings") and num_unlike <= MAX_WARNINGS:
        more = " (further ones are in the table alone)" if num_unlike == MAX_WARNINGS else ""
        logger.warning("%s is unlike the calibration pictures: %s%s", row["path"], "; ".join(row["warnings"]), more)


def _task_key(inspector: "Inspector", root: Path, paths: list[Path], with_overlays: bool) -> str | None:
    """Hash of all that the results are a function of; None of an inspector that no package names."""
    if inspector.package is None:
        return None
    files = [[os.fsencode(path).hex(), *_size_and_time(path)] for path in paths]
    threshold = [inspector.threshold, inspector.threshold_source, inspector.review_threshold]
    model = [inspector.package.config[SEAL], inspector.engine_name, threshold, __version__]
    return hash_of([model, os.fsencode(root.resolve()).hex(), files, with_overlays])


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return -1, -1
    return about.st_size, about.st_mtime_ns


def _finished_rows(path: Path) -> list[dict[str, Any]]:
    """Rows that a killed run of the same pictures has finished; half of one is cut off."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


@dataclass(frozen=True)
class _Work:
    """What is the same for all pictures of a call."""

    inspector: "Inspector"
    root: Path
    problems: dict[Path, str]
    overlays_dir: Path | None

    def size_of(self, path: Path) -> int:
        """Pixels of a picture, by its header; 0 of one that cannot be read."""
        return 0 if path in self.problems else pixels_in(path)

    def row_of(self, path: Path, network: ThreadPoolExecutor) -> dict[str, Any]:
        """The row of a picture, its overlay being on disk. network: the one thread that predicts."""
        name = path.relative_to(self.root).as_posix()
        try:
            with _one_line(path):
                return {"path": name} | self._judge(path, name, network)
        except ValueError as error:
            logger.error("%s", error)
            return {"path": name, "verdict": "error", "error": str(error)}

    def _judge(self, path: Path, name: str, network: ThreadPoolExecutor) -> dict[str, Any]:
        if path in self.problems:
            raise ValueError(self.problems[path])
        inspector = self.inspector
        picture = inspector.open(path)
        fitted = inspector.fit(picture, name=str(path))
        prediction = network.submit(inspector.predict, fitted, name=str(path)).result()
        verdict = inspector.verdict(picture, fitted, prediction)
        if self.overlays_dir is not None:
            _write_overlay(self.overlays_dir, name, draw_verdict(inspector.pixels(picture), verdict))
        return _as_row(verdict) | {"threshold_source": inspector.threshold_source}


def _inspect_all(work: _Work, paths: list[Path]) -> Iterator[dict[str, Any]]:
    """A row per image, in order, once its overlay is written. One thread predicts; others do all the rest."""
    with (
        ThreadPoolExecutor(1) as network,
        tqdm(desc="inspect", unit="image", total=len(paths), disable=None) as bar,
    ):
        for row in map_in_threads(partial(work.row_of, network=network), paths, pixels_of=work.size_of):
            bar.update()
            yield row


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what one picture can cause, that it is too large for the memory, into a ValueError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch's is a RuntimeError
            raise
        raise ValueError(f"not enough memory for {path} (cut it into smaller pictures)") from error


def _write_overlay(folder: Path, name: str, picture: np.ndarray) -> None:
    """Write the overlay of the picture `name`, under a short name where the file system cannot have its own."""
    own, short = overlay_paths(folder, name)
    try:
        write_jpeg(own, picture)
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        logger.warning("the overlay of %s is %s (%s)", name, short.name, error.strerror)
        write_jpeg(short, picture)


def _open_text(path: Path, mode: str) -> TextIO:
    # file names may be no UTF-8
    return cast(TextIO, path.open(mode, encoding="utf-8", errors="surrogateescape", newline="\n"))


def start_table(table: TextIO) -> "csv.DictWriter[str]":
    """A writer of rows, after the names of the columns."""
    writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    return writer


def table_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the table has it."""
    shown = {name: f"{value:.{DIGITS}g}" if isinstance(value, float) else value for name, value in row.items()}
    return as_cells(shown | {"warning": "; ".join(row.get("warnings", []))})


def _as_row(verdict: Verdict) -> dict[str, Any]:
    height, width = verdict.size
    return {
        "height": height,
        "width": width,
        "verdict": verdict.word,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "num_regions": len(verdict.regions),
        "regions": [asdict(region) for region in verdict.regions],
        "warnings": list(verdict.warnings),
        "error": "",
    }
