"""The steps of the pipeline: each a function of paths and parameters that writes one folder and returns its metrics."""

import json
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.config import Params, parse_params
from ndpnet.files import atomic_folder, check_output, hash_of, write_json
from ndpnet.lineage import code_hash, folder_hash, identity_params

if TYPE_CHECKING:
    from ndpnet.data.versions.resolving import DataSource

logger = logging.getLogger(__name__)

PREPARED_FILES = ("manifest.json", "prepared.json")  # the arrays are a function of these
BANK_FILES = ("bank.json", "masks.npy", "sources.npy")
BANK_PARAMETERS = {"patch_size", "num_masks", "sources", "num_sources"}
BANK_PARAMETERS |= {"line_share", "line_width_min", "line_width_max", "line_max_log2_grid"}
PHASE1, PHASE1_WEIGHTS, HISTORY = "phase1.json", "weights.safetensors", "history.jsonl"
REGISTERED = "registered.json"
SOURCE_HASH = "source_hash"  # tag of a version: the pictures of its category, as their source names them

ParamsLike = Params | str


def version_data(
    out: Path,
    *,
    url: str | None = None,
    revision: str | None = None,
    path: str = "data",
    prefix: str | None = None,
    manifest: str | Path | None = None,
    endpoint_url: str | None = None,
) -> dict[str, Any]:
    """Write exactly the data that a git revision's `path`.dvc pins, or that a manifest lists under an S3 prefix.

    Every file is verified by its hash, and a version.json says so. -> revision, hashes, counts.
    """
    from ndpnet.data.versions.fetching import fetch_version

    wanted = {"url": url, "revision": revision, "path": path, "prefix": prefix, "manifest": manifest}
    return fetch_version(out, **wanted, endpoint_url=endpoint_url)


def resolve_version(out: Path, source: "DataSource") -> dict[str, Any]:
    """Write resolved.json: which version of the data a branch, a manifest or a folder means now, and its files.

    -> source (as JSON), version (hash), categories with their counts, num_files.
    """
    from ndpnet.data.versions.resolving import RESOLVED, resolve

    check_output(out, marker=RESOLVED)
    resolved = resolve(source)
    with atomic_folder(out, marker=RESOLVED) as folder:
        write_json(folder / RESOLVED, asdict(resolved))
    named = {"source": json.dumps(asdict(resolved.source), sort_keys=True), "version": resolved.source.version}
    return named | {"categories": resolved.counts(), "num_files": len(resolved.files)}


def choose_categories(resolved: Path, categories: list[str], *, only_new_data: bool = False) -> list[str]:
    """Which of the categories (none: all there are) to train; with `only_new_data` those that their champion never saw.

    resolved: output of `resolve_version`. ValueError names a category that the data do not have.
    """
    from ndpnet.data.versions.resolving import Resolved

    version = Resolved.load(resolved)
    hashes = {category: version.category_hash(category) for category in categories or version.counts()}
    if not only_new_data:
        return list(hashes)
    from ndpnet.tracking.client import prepare_environment

    prepare_environment()  # before MLflow is imported
    from ndpnet.tracking.versions import champion_tags

    return [each for each, value in hashes.items() if champion_tags(each).get(f"ndpnet.{SOURCE_HASH}") != value]


def prepare(
    data_dir: Path, category: str, out: Path, params: ParamsLike, *, allow_unpinned: bool = False
) -> dict[str, Any]:
    """Decode one category into arrays and a manifest. -> counts and the data hash. ValueError names what is wrong.

    Pictures that are not exactly the pinned ones are refused, or with `allow_unpinned` recorded as such.
    """
    from ndpnet.data import prepared
    from ndpnet.data.versions.version import check_pinned

    is_pinned = True
    try:
        check_pinned(data_dir, category)
    except ValueError as error:
        if not allow_unpinned:
            raise
        is_pinned = False
        logger.warning("unpinned data, its models cannot be promoted: %s", error)
    return prepared.prepare(data_dir, category, out, **parse_params(params).data.model_dump(), is_pinned=is_pinned)


def synthesize(out: Path, params: ParamsLike) -> dict[str, int]:
    """Make the defect bank: masks and natural-image sources, one for all categories. -> counts."""
    from ndpnet.synthesis.bank import make_bank

    params = parse_params(params)
    return make_bank(out, seed=params.seed, **params.synthesis.model_dump(include=BANK_PARAMETERS))


def train_phase1(prepared: Path, bank: Path, out: Path, params: ParamsLike, work_dir: Path) -> dict[str, float]:
    """Train encoder and decoder (Eq. 12-14); resumes from `work_dir`. -> last losses, seconds, images/s.

    In the other processes that torchrun started: their part of the training alone, and no metrics.
    """
    from ndpnet.inference.package import write_weights
    from ndpnet.training.checkpoint import only_process
    from ndpnet.training.processes import is_first_process
    from ndpnet.training.run import train_encoder

    params = parse_params(params)
    check_output(out, marker=PHASE1)
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), folder_hash(bank, BANK_FILES)])
    inputs = _phase_inputs("phase1", prepared, bank, params, work_dir, inputs_hash)
    if not is_first_process():
        train_encoder(inputs)
        return {}
    with only_process(inputs.work_dir):
        result = train_encoder(inputs)
        with atomic_folder(out, marker=PHASE1) as folder:
            write_weights(result.network, folder / PHASE1_WEIGHTS, prefixes=("encoder.", "decoder."))
            write_json(folder / PHASE1, {"params": identity_params(params), "inputs": inputs_hash})
            losses = _keep_history(inputs.work_dir, folder / HISTORY)
        shutil.rmtree(inputs.work_dir)
    return losses | result.speed


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
    from ndpnet.inference.calibration import calibrate_on_prepared
    from ndpnet.inference.package import REFERENCE, write_training
    from ndpnet.training.checkpoint import only_process
    from ndpnet.training.processes import is_first_process
    from ndpnet.training.run import train_detector

    params = parse_params(params)
    check_output(out, marker=REFERENCE)
    inputs_of_model = {
        "bank_hash": folder_hash(bank, BANK_FILES),
        "phase1_hash": folder_hash(phase1, (PHASE1_WEIGHTS, HISTORY, PHASE1)),  # its own parameters, too
    }
    inputs_hash = hash_of([folder_hash(prepared, PREPARED_FILES), inputs_of_model])
    inputs = _phase_inputs("phase2", prepared, bank, params, work_dir, inputs_hash)
    inputs = replace(inputs, pictures_dir=pictures_dir)
    if not is_first_process():
        train_detector(inputs, Path(phase1) / PHASE1_WEIGHTS)
        return {}
    with only_process(inputs.work_dir):
        result = train_detector(inputs, Path(phase1) / PHASE1_WEIGHTS)
        with atomic_folder(out, marker=REFERENCE) as folder:
            shutil.copyfile(Path(phase1) / HISTORY, folder / "history_phase1.jsonl")
            references = result.reference_indices
            write_training(folder, result.network, inputs.prepared, references, params, inputs_of_model)
            threshold = calibrate_on_prepared(folder, inputs.prepared, params)
            losses = _keep_history(inputs.work_dir, folder / "history_phase2.jsonl")
        shutil.rmtree(inputs.work_dir)
    return losses | result.speed | ({"threshold": threshold["value"]} if threshold else {})


def evaluate(
    prepared: Path, model: Path, out: Path, params: ParamsLike, run_identity: dict[str, str] | None = None
) -> dict[str, Any]:
    """Judge the test images; write metrics, curves, predictions, table, report and overlays. -> metrics."""
    from ndpnet.evaluation.evaluate import evaluate_package

    return evaluate_package(prepared, model, out, parse_params(params), run_identity or {})


def register(
    model: Path,
    evaluation: Path,
    out: Path,
    *,
    identity: dict[str, str] | None = None,
    import_report: Path | None = None,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Register a package with its evaluation and card in the model registry, once; write registered.json.

    identity: commit, lock, image and run that made it, as tags; import_report: names the licence, if it is there;
    run_id: a run to log to, instead of one of its own. -> name, version, run_id, model_id, package_hash, tags.
    """
    from ndpnet.model_card import read_licence
    from ndpnet.tracking.client import prepare_environment

    prepare_environment()  # before MLflow is imported
    from ndpnet.tracking.models import register as register_package

    check_output(out, marker=REGISTERED)
    licence = read_licence(Path(import_report)) if import_report else ""
    record = register_package(model, evaluation, identity=identity or {}, licence=licence, run_id=run_id)
    with atomic_folder(out, marker=REGISTERED) as folder:
        write_json(folder / REGISTERED, record)
    return record


def promote(
    name: str,
    out: Path | None,
    params: ParamsLike,
    *,
    author: dict[str, str],
    version: int | None = None,
    prepared: Path | None = None,
    champion_prepared: Path | None = None,
    force_reason: str = "",
    device: str = "cpu",
) -> dict[str, Any]:
    """Make a version the champion if it passes the gate, or is forced; write promotion.json. -> its content.

    author: who and when (ISO 8601).
    """
    from ndpnet.tracking.client import prepare_environment

    prepare_environment()  # before MLflow is imported
    from ndpnet.promotion import promote as promotion
    from ndpnet.tracking.registry import Author

    wish = promotion.Wish(version, prepared, champion_prepared, force_reason)
    settings = promotion.settings_of(parse_params(params), device=device)
    return promotion.promote(name, wish, settings, Author(**author), out)


def _phase_inputs(name: str, prepared: Path, bank: Path, params: Params, work_dir: Path, inputs_hash: str) -> Any:
    """Open a phase's inputs; its checkpoint folder is named by the hash of inputs, parameters and code."""
    from ndpnet.data.prepared import PreparedData
    from ndpnet.synthesis.bank import DefectBank
    from ndpnet.training.run import PhaseInputs

    prepared_data, defect_bank = PreparedData.load(prepared), DefectBank.load(bank)
    _check_made_with(prepared, prepared_data.settings, params, "prepare", "data")
    sizes = {"num_masks": len(defect_bank.masks), "num_sources": len(defect_bank.sources)}
    _check_made_with(bank, sizes | {"patch_size": defect_bank.patch_size}, params, "synthesize", "synthesis")
    key = hash_of([name, inputs_hash, identity_params(params), params.runtime.devices, code_hash()])
    folder = Path(work_dir) / f"{name}-{key[:16]}"
    return PhaseInputs(prepared_data, defect_bank, params, folder)


def _check_made_with(folder: Path, made_with: dict[str, Any], params: Params, verb: str, section: str) -> None:
    """Refuse an input made with other parameters than the model would claim."""
    wanted = getattr(params, section).model_dump()
    for name in sorted(made_with.keys() & wanted.keys()):
        if made_with[name] != wanted[name]:
            raise ValueError(
                f"{folder} was made with {section}.{name} {made_with[name]!r}, not {wanted[name]!r} "
                f"(run `ndpnet {verb}` again, or pass -P '{section}.{name}={json.dumps(made_with[name])}')"
            )


def _keep_history(work_dir: Path, path: Path) -> dict[str, float]:
    """Copy a phase's history into its output. -> the last losses."""
    from ndpnet.training.loop import history_of

    shutil.copyfile(work_dir / HISTORY, path)
    return [row for row in history_of(path) if "loss" in row][-1]
