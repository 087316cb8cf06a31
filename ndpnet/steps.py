"""The steps of the pipeline: each a function of paths and parameters that writes one folder and returns its metrics.

Each is a run on the tracking server, unless tracking is switched off.
"""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.config import Params, parse_params
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, check_apart, check_output
from ndpnet.tracking.live import step_run

if TYPE_CHECKING:
    from ndpnet.data.versions.version import DataSource

logger = logging.getLogger(__name__)

BANK_PARAMETERS = {"patch_size", "num_masks", "sources", "num_sources", "source_augmentation"}
BANK_PARAMETERS |= {"line_share", "crack_share"}
REGISTERED = "registered.json"

ParamsLike = Params | str


def version_data(out: Path, source: "DataSource") -> dict[str, Any]:
    """Write exactly the data that a git revision's `path`.dvc pins, or that a manifest lists under an S3 prefix.

    Every file is verified by its hash, and a version.json says so. -> revision, hashes, counts.
    """
    from ndpnet.data.versions.fetching import fetch_version

    with step_run("version-data", out=out, source=source.named()) as run:
        return run.result(fetch_version(Path(out), source))


def resolve_version(out: Path, source: "DataSource") -> dict[str, Any]:
    """Write resolved.json: which version of the data a branch, a manifest or a folder means now, and its files.

    -> source (as JSON), version (hash), categories with their counts, num_files.
    """
    from ndpnet.data.versions.fetching import RESOLVED, resolve

    check_output(out, marker=RESOLVED)
    with step_run("version-data", out=out, source=source.named()) as run:
        resolved = resolve(source)
        with atomic_folder(out, marker=RESOLVED) as folder:
            write_json(folder / RESOLVED, asdict(resolved))
        named = {"source": resolved.source.to_json(), "version": resolved.source.version}
        return run.result(named | {"categories": resolved.counts(), "num_files": len(resolved.files)})


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


def prepare_version(source: str, category: str, out: Path, params: ParamsLike) -> dict[str, Any]:
    """Fetch one category of a resolved version (its `source`, as JSON), decode it, and drop the pictures."""
    from ndpnet.data.versions.fetching import local_copy
    from ndpnet.data.versions.version import DataSource

    resolved = DataSource.from_json(source)
    with local_copy(resolved, category) as data_dir:
        return prepare(data_dir, category, out, params, source=resolved)


def prepare(
    data_dir: Path,
    category: str,
    out: Path,
    params: ParamsLike,
    *,
    allow_unpinned: bool = False,
    source: "DataSource | None" = None,
) -> dict[str, Any]:
    """Decode one category into arrays and a manifest. -> counts and the data hash. ValueError names what is wrong.

    Pictures that are not exactly the pinned ones are refused, or with `allow_unpinned` recorded as such. source: where
    they were fetched from.
    """
    from ndpnet.data import preparing
    from ndpnet.data.versions.version import UnpinnedError, check_pinned

    pictures = Path(data_dir) / category
    check_apart(out, pictures)
    if not pictures.is_dir():
        check_pinned(data_dir, category)
    where = source.named() if source else None
    with step_run("prepare", category, out=out, params=params, inputs={"data": pictures}, source=where) as run:
        is_pinned = True
        try:
            check_pinned(data_dir, category)
        except UnpinnedError as error:
            if not allow_unpinned:
                raise
            is_pinned = False
            logger.warning("unpinned data, its models cannot be promoted: %s", error.fact)
        data = parse_params(params).data
        return run.result(preparing.prepare(data_dir, category, out, data, is_pinned=is_pinned))


def synthesize(out: Path, params: ParamsLike) -> dict[str, int]:
    """Make the defect bank: masks and natural-image sources, one for all categories. -> counts."""
    from ndpnet.synthesis.bank import make_bank

    params = parse_params(params)
    if params.synthesis.sources:
        check_apart(out, Path(params.synthesis.sources))
    with step_run("synthesize", out=out, params=params) as run:
        return run.result(make_bank(out, params.synthesis, seed=params.seed))


def train_phase1(prepared: Path, bank: Path, out: Path, params: ParamsLike, work_dir: str | Path) -> dict[str, float]:
    """Train encoder and decoder (Eq. 12-14). -> last losses, seconds, images/s.

    Resumes from `work_dir`, a folder or s3://BUCKET/PREFIX. In the other processes that torchrun started: their part of
    the training alone, and no metrics.
    """
    from ndpnet.training.run import run_phase1

    inputs = {"prepared": prepared, "bank": bank}
    check_apart(out, *inputs.values())
    with (
        _local_work_dir(work_dir, "phase1", prepared) as folder,
        step_run("train-phase1", out=out, params=params, inputs=inputs) as run,
    ):
        return run.result(run_phase1(prepared, bank, out, parse_params(params), folder, run.watch_dir))


def train_phase2(
    prepared: Path, bank: Path, phase1: Path, out: Path, params: ParamsLike, work_dir: str | Path
) -> dict[str, float]:
    """Train attention, decoder and segmentation (Eq. 15-17), fit the threshold, write the model package.

    -> last losses, seconds, images/s, threshold; work_dir, torchrun's other processes as in `train_phase1`.
    """
    from ndpnet.training.run import run_phase2

    inputs = {"prepared": prepared, "bank": bank, "phase1": phase1}
    check_apart(out, *inputs.values())
    with (
        _local_work_dir(work_dir, "phase2", prepared) as folder,
        step_run("train-phase2", out=out, params=params, inputs=inputs) as run,
    ):
        return run.result(run_phase2(prepared, bank, phase1, out, parse_params(params), folder, run.watch_dir))


def evaluate(
    prepared: Path, model: Path, out: Path, params: ParamsLike, *, engine: str = "torch", precision: str | None = None
) -> dict[str, Any]:
    """Judge the test images; write metrics, curves, predictions, table, report and overlays. -> metrics.

    engine, precision: another than torch, which `ndpnet export` added to the model. The report shows the champion, too.
    """
    from ndpnet.data.prepared import PreparedData
    from ndpnet.evaluation.evaluate import evaluate_package
    from ndpnet.inference.engines.stored import read_engine
    from ndpnet.inference.package import read_package
    from ndpnet.tracking.client import has_server, is_off
    from ndpnet.tracking.identity import report_identity

    check_apart(out, prepared, model)
    # both are read before the finished run of this folder is touched
    category, package, champion = PreparedData.load(prepared).manifest.category, read_package(Path(model)), None
    if has_server() and not is_off():
        from ndpnet.tracking.models import champion_summary

        champion = champion_summary(category)
    inputs = {"prepared": prepared, "model": model}
    if engine != "torch":
        inputs["engine"], _ = read_engine(package, engine, precision)
    with step_run("evaluate", out=out, params=params, inputs=inputs) as run:
        arguments = (prepared, model, out, parse_params(params), report_identity())
        return run.result(evaluate_package(*arguments, engine=engine, precision=precision, champion=champion))


def register(
    model: Path, evaluation: Path, out: Path, *, import_report: Path | None = None, resolved: Path | None = None
) -> dict[str, Any]:
    """Register a package with its evaluation and card in the model registry, once; write registered.json.

    import_report: names the licence, if it is there; resolved: the version of the data that it was made from.
    -> name, version, run_id, model_id, package_hash, tags.
    """
    from ndpnet.data.versions.fetching import Resolved
    from ndpnet.inference.package import read_package
    from ndpnet.model_card import read_licence
    from ndpnet.tracking.identity import run_identity
    from ndpnet.tracking.models import register as register_package

    check_apart(out, model, evaluation)
    check_output(out, marker=REGISTERED)
    identity = run_identity()
    if resolved is not None:
        category = read_package(Path(model)).config["category"]
        identity["source_hash"] = Resolved.load(resolved).category_hash(category)
    licence = read_licence(Path(import_report)) if import_report else ""
    record = register_package(Path(model), Path(evaluation), identity=identity, licence=licence)
    with atomic_folder(out, marker=REGISTERED) as folder:
        write_json(folder / REGISTERED, record)
    return record


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


def _local_work_dir(place: str | Path, step: str, prepared: Path) -> AbstractContextManager[Path]:
    from ndpnet.storage.urls import is_on_s3

    if not is_on_s3(place):
        return nullcontext(Path(place))
    from ndpnet.data.prepared import PreparedData
    from ndpnet.storage.workdir import local_work_dir

    return local_work_dir(str(place), category=PreparedData.load(prepared).manifest.category, step=step)
