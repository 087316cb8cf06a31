"""What names of folders say: good pictures, defective ones, masks; which names of categories are safe everywhere."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import TypeVar

from ndpnet.data.manifest import GOOD


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# as `plain` writes them
GOOD_NAMES = _words(
    "good goods ok okay normal io gut pass passed defectfree nodefect nodefects nondefective faultless faultfree"
)
DEFECTIVE_NAMES = _words(
    "defective defect defects bad ko nok notok ng nogood notgood nio fail failed faulty abnormal anomaly anomalies "
    "anomalous reject rejects rejected scrap schlecht fehler ausschuss"
)
TYPE_NAMES = _words("crack cracks scratch scratches hole holes")
MASK_NAMES = _words("groundtruth gt mask masks annotation annotations")
# in a folder that a step wrote: inspect, evaluate, train-phase2, prepare
RESULTS = ("predictions.jsonl", "headline.json", "weights.safetensors", "prepared.json")
# among the words of a name
GOOD_WORDS = GOOD_NAMES | _words("clean intact perfect flawless healthy accept accepted gutteile reference")
NEGATIONS = _words("no not non n nicht kein un without ohne")
FAULTS = _words("defect defects defective fault faults faulty anomaly anomalies fehler")
CATEGORY = re.compile(r"\w(?:[\w .+-]*[\w+-])?")
MAX_CATEGORY_BYTES = 100
AnyPath = TypeVar("AnyPath", bound=PurePath)


def plain(name: str) -> str:
    """Return a name without what people write differently."""
    return re.sub(r"[\s._-]+", "", name_key(name))


def name_key(name: str) -> str:
    """Return what names share that some file system, or person, takes for one: no case, accents composed."""
    return unicodedata.normalize("NFC", name).casefold()


def type_of(folder: str) -> str:
    """Return the type of defect that a folder below test/ holds: its name, or GOOD for a known name of good ones.

    ValueError asks about a name that may mean either, and refuses one of masks.
    """
    if plain(folder) in GOOD_NAMES:
        return GOOD
    refuse_masks(PurePath(folder))
    words = re.findall(r"[^\W\d_]+", folder.casefold())
    is_negated = any(word in NEGATIONS for word in words)
    sounds_good = not is_negated and any(word in GOOD_WORDS for word in words)
    sounds_good |= any(word in FAULTS for word in words) and (is_negated or "free" in words)
    if sounds_good:
        raise ValueError(
            f"folder {folder!r} holds good pictures, or a type of defect? (rename it to {GOOD}, or to the defect)"
        )
    return folder


def refuse_masks(folder: PurePath) -> None:
    """Refuse a folder among pictures that has a name of masks."""
    if plain(folder.name) in MASK_NAMES:
        raise ValueError(f"folder {str(folder)!r} holds masks by its name (move it out of the pictures)")


def without_own(
    root: AnyPath, paths: Iterable[AnyPath], *, is_file: Callable[[AnyPath], bool]
) -> tuple[list[AnyPath], dict[AnyPath, str]]:
    """Leave out what is no picture to judge. -> the others, and the folders that were left out with what they hold.

    paths: below root. The results of earlier steps, and masks.
    """
    remaining: list[AnyPath] = []
    known: dict[AnyPath, str] = {}  # folders, and what they hold; "": pictures
    left_out: dict[AnyPath, str] = {}
    for path in paths:
        for folder in reversed([parent for parent in path.parents if parent != root and parent.is_relative_to(root)]):
            if folder not in known:
                is_result = any(is_file(folder / name) for name in RESULTS)
                known[folder] = "results" if is_result else "masks" if plain(folder.name) in MASK_NAMES else ""
            if known[folder]:
                left_out[folder] = known[folder]
                break
        else:
            remaining.append(path)
    return remaining, left_out


def refuse_defective(root: Path, paths: Iterable[Path]) -> None:
    """Refuse pictures to be good whose folders say that they are defective, or masks. paths: below root."""
    root = root.resolve()
    outer = () if root.name.startswith(".") else (root.parent,)  # hidden: an archive, unpacked beside the data
    for folder in sorted({path.parent.resolve() for path in paths}):
        below = [place for place in (folder, *folder.parents) if place.is_relative_to(root)]
        named = [place for place in (*below, *outer) if plain(place.name) in DEFECTIVE_NAMES | TYPE_NAMES | MASK_NAMES]
        beside_good = [place for place in below if _is_type_of_defect(place, is_root=place == root)]
        if named or beside_good:
            raise ValueError(
                f"{(named + beside_good)[0]} holds no good pictures, by its name or by the folders beside it "
                f"(give good ones alone, as those in test/{GOOD})"
            )


def _is_type_of_defect(folder: Path, *, is_root: bool) -> bool:
    """Whether a folder lies where types of defects do: in the test/ of a category, or beside one of good pictures."""
    if plain(folder.name) in GOOD_NAMES:
        return False
    if folder.parent.name == "test" and (folder.parent.parent / "train").is_dir():
        return True
    return not is_root and any(plain(near.name) in GOOD_NAMES for near in folder.parent.iterdir() if near.is_dir())


def check_category(name: str) -> None:
    """Refuse a category's name that a shell, a URL or a file system could take for something else."""
    composed = unicodedata.normalize("NFC", name)  # macOS writes accents apart
    odd = sorted(set(re.sub(r"[\w .+-]", "", composed)))
    if odd or not CATEGORY.fullmatch(composed) or len(name.encode()) > MAX_CATEGORY_BYTES:
        has = f"has {''.join(odd)!r}" if odd else "starts or ends oddly, or is too long"
        raise ValueError(
            f"the category's name {name!r} {has} (rename it: letters, digits, spaces and _ . + - inside, at most "
            f"{MAX_CATEGORY_BYTES} bytes)"
        )
