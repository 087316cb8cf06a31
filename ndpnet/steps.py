"""The steps of the pipeline: each a function of paths and parameters that writes one folder and returns its metrics."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.config import Params, parse_params
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, check_apart, check_output

if TYPE_CHECKING:
    from ndpnet.data.versions.version import DataSource

logger = logging.getLogger(__name__)

BANK_PARAMETERS = {"patch_size", "num_masks", "sources", "num_sources", "source_augmentation"}
BANK_PARAMETERS |= {"line_share", "crack_share"}

ParamsLike = Params | str


def version_data(out: Path, source: "DataSource") -> dict[str, Any]:
    """Write exactly the data that a git revision's `path`.dvc pins, or that a manifest lists under an S3 prefix.

    Every file is verified by its hash, and a version.json says so. -> revision, hashes, counts.
    """
    from ndpnet.data.versions.fetching import fetch_version

    return fetch_version(out, source)


def resolve_version(out: Path, source: "DataSource") -> dict[str, Any]:
    """Write resolved.json: which version of the data a branch, a manifest or a folder means now, and its files.

    -> source (as JSON), version (hash), categories with their counts, num_files.
    """
    from ndpnet.data.versions.fetching import RESOLVED, resolve

    check_output(out, marker=RESOLVED)
    resolved = resolve(source)
    with atomic_folder(out, marker=RESOLVED) as folder:
        write_json(folder / RESOLVED, asdict(resolved))
    named = {"source": resolved.source.to_json(), "version": resolved.source.version}
    return named | {"categories": resolved.counts(), "num_files": len(resolved.files)}


def choose_categories(resolved: Path, categories: list[str], *, only_new_data: bool = False) -> list[str]:
    """Which of the categories (none: all there are) to train; with `only_new_data` those that their champion never saw.

    resolved: output of `resolve_version`. ValueError names a category that the data do not have.
    """
    from ndpnet.data.versions.fetching import Resolved

    version = Resolved.load(resolved)
    hashes = {category: version.category_hash(category) for category in categories or version.counts()}
    if not only_new_data:
        return list(hashes)
    from ndpnet.tracking.versions import SOURCE_HASH, champion_tags

    return [category for category, value in hashes.items() if champion_tags(category).get(SOURCE_HASH) != value]


def prepare(
    data_dir: Path, category: str, out: Path, params: ParamsLike, *, allow_unpinned: bool = False
) -> dict[str, Any]:
    """Decode one category into arrays and a manifest. -> counts and the data hash. ValueError names what is wrong.

    Pictures that are not exactly the pinned ones are refused, or with `allow_unpinned` recorded as such.
    """
    from ndpnet.data import preparing
    from ndpnet.data.versions.version import UnpinnedError, check_pinned

    check_apart(out, Path(data_dir) / category)
    is_pinned = True
    try:
        check_pinned(data_dir, category)
    except UnpinnedError as error:
        if not allow_unpinned:
            raise
        is_pinned = False
        logger.warning("unpinned data, its models cannot be promoted: %s", error.fact)
    return preparing.prepare(data_dir, category, out, parse_params(params).data, is_pinned=is_pinned)


def synthesize(out: Path, params: ParamsLike) -> dict[str, int]:
    """Make the defect bank: masks and natural-image sources, one for all categories. -> counts."""
    from ndpnet.synthesis.bank import make_bank

    params = parse_params(params)
    if params.synthesis.sources:
        check_apart(out, Path(params.synthesis.sources))
    return make_bank(out, params.synthesis, seed=params.seed)


def train_phase1(prepared: Path, bank: Path, out: Path, params: ParamsLike, work_dir: Path) -> dict[str, float]:
    """Train encoder and decoder (Eq. 12-14); resumes from `work_dir`. -> last losses, seconds, images/s.

    In the other processes that torchrun started: their part of the training alone, and no metrics.
    """
    from ndpnet.training.run import run_phase1

    check_apart(out, prepared, bank)
    return run_phase1(prepared, bank, out, parse_params(params), work_dir)


def train_phase2(
    prepared: Path,
    bank: Path,
    phase1: Path,
    out: Path,
    params: ParamsLike,
    work_dir: Path,
    *,
    pictures_dir: Path | None = None,
) -> dict[str, float]:
    """Train attention, decoder and segmentation (Eq. 15-17), fit the threshold, write the model package.

    Resumes from `work_dir`. Pictures of the validation go to `pictures_dir`, if given: they are no part of the model.
    -> last losses, seconds, images/s, threshold; torchrun's other processes as in `train_phase1`.
    """
    from ndpnet.training.run import run_phase2

    check_apart(out, prepared, bank, phase1)
    return run_phase2(prepared, bank, phase1, out, parse_params(params), work_dir, pictures_dir)


def evaluate(
    prepared: Path,
    model: Path,
    out: Path,
    params: ParamsLike,
    run_identity: dict[str, str] | None = None,
    *,
    engine: str = "torch",
    precision: str | None = None,
    champion: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Judge the test images; write metrics, curves, predictions, table, report and overlays. -> metrics.

    engine, precision: another than torch, which `ndpnet export` added to the model; champion: `version` and `summary`
    of the one to show beside it in the report.
    """
    from ndpnet.evaluation.evaluate import evaluate_package

    check_apart(out, prepared, model)
    arguments = (prepared, model, out, parse_params(params), run_identity or {})
    return evaluate_package(*arguments, engine=engine, precision=precision, champion=champion)


def promote(
    name: str,
    out: Path | None,
    params: ParamsLike,
    *,
    version: int | None = None,
    prepared: Path | None = None,
    champion_prepared: Path | None = None,
    force_reason: str = "",
    device: str = "cpu",
) -> dict[str, Any]:
    """Make a version the champion if it passes the gate, or is forced; write promotion.json. -> its content."""
    from ndpnet.config_platform import promotion_of
    from ndpnet.promotion import promote as promotion

    bounds = promotion_of(params)
    request = promotion.PromotionRequest(
        name, bounds, version, prepared, champion_prepared, force_reason=force_reason, device=device
    )
    return promotion.promote(request, out)
