"""Files that appear complete or not at all, the hashes that name their content, and what is said of them."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

CHUNK_BYTES = 1 << 20
NUM_NAMES = 3  # of files, in an error
FORMULA_SIGNS = ("=", "+", "-", "@", "\t")  # https://owasp.org/www-community/attacks/CSV_Injection


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, as 64 hex digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_of(obj: Any) -> str:
    """Return the sha256 of a JSON value in canonical form: sorted keys, no spaces, ASCII; NaN is a ValueError."""
    canonical = json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def write_json(path: Path, obj: Any) -> None:
    """Write a JSON value atomically, as `as_json`."""
    write_text(path, as_json(obj))


def as_json(obj: Any) -> str:
    """A JSON value as a file: sorted keys, indent 2, ends in a newline; NaN is a ValueError."""
    return json.dumps(obj, sort_keys=True, indent=2, allow_nan=False) + "\n"


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, as the history of a training."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def read_record(path: Path, version: int, fix: str, *, fix_damage: str = "") -> dict[str, Any]:
    """A JSON object with this `format_version`. ValueError says what to do: it is of another one, or damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        its_version = record["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r} ({fix_damage or fix})") from error
    if its_version != version:
        raise ValueError(f"{path} has format {its_version!r}, this ndpnet reads {version} ({fix})")
    return record


def read_yaml(path: Path) -> Any:
    """What a YAML file has. OSError, UnicodeDecodeError, YAMLError: it cannot be read, or a name stands twice in it."""
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)


class _Loader(yaml.SafeLoader):
    """YAML in which no name stands twice: the last one would be taken without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(f"{name} stands twice (lines {lines[name]} and {line})")
            lines[name] = line
        return super().construct_mapping(node, deep=deep)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically, names of files as they are; parents are created. ValueError: it cannot be."""
    try:
        replace_file(path, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise unwritable(path, error) from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically (temporary name in its folder, fsync, replace); parents are created."""
    path = Path(path)
    partial = partial_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def readable_bytes(num_bytes: int) -> str:
    """Format a size: "8.70MB"."""
    from tqdm import tqdm

    return str(tqdm.format_sizeof(num_bytes, "B"))


def some_names(names: Sequence[str]) -> str:
    """The first few of many names, for one line."""
    more = f" and {len(names) - NUM_NAMES} more" if len(names) > NUM_NAMES else ""
    return ", ".join(names[:NUM_NAMES]) + more


def as_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a CSV file: text that a spreadsheet would compute gets a ' before it, as =HYPERLINK(...) does."""
    return {name: _as_cell(value) if isinstance(value, str) else value for name, value in row.items()}


def _as_cell(text: str) -> str:
    text = text.replace("\r", "\\r")  # csv writes it without quotes, and readers take it for the end of a row
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text


@contextmanager
def naming_full_disk(folder: Path, what: Path) -> Iterator[None]:
    """Turn what a library raises because `folder` has no room left into a ValueError that says so of `what`."""
    try:
        yield
    except Exception as error:  # numpy, torch and safetensors each raise their own
        if isinstance(error, ValueError) or shutil.disk_usage(folder).free >= CHUNK_BYTES:
            raise
        raise ValueError(
            f"cannot write {what}: No space left on device (free some, or choose another folder)"
        ) from error


def partial_name(path: Path, key: str | None = None, ending: str = "partial") -> Path:
    """A name beside a file or folder for what is not whole yet; key: the same one every time."""
    return path.with_name(f".{path.name}.{(key or uuid.uuid4().hex)[:12]}.{ending}")


def unwritable(path: Path, error: OSError) -> ValueError:
    """What keeps a file or folder from being written, as an error that names it."""
    reason = error.strerror or type(error).__name__
    return ValueError(f"cannot write {path}: {reason} (choose a folder you can write to)")
