"""The steps with their runs on the tracking server: what the command line and the pipeline's components call.

Same arguments as in `steps`, and the same result; both trainings are one `train`, and `register` is here alone.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ndpnet import steps
from ndpnet.config import Params
from ndpnet.data.prepared import PreparedData
from ndpnet.data.versions.fetching import Resolved, local_copy
from ndpnet.data.versions.version import DataSource, check_pinned
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, check_apart, check_output
from ndpnet.inference.engines.stored import read_engine
from ndpnet.inference.package import read_package
from ndpnet.storage.urls import is_on_s3
from ndpnet.tracking.client import has_server, is_off
from ndpnet.tracking.identity import report_identity, run_identity
from ndpnet.tracking.live import step_run

REGISTERED = "registered.json"

ParamsLike = Params | str


def version_data(out: Path, source: DataSource) -> dict[str, Any]:
    """Write one version of the data."""
    with step_run("version-data", out=out, source=source.named()) as run:
        return run.result(steps.version_data(Path(out), source))


def resolve_version(out: Path, source: DataSource) -> dict[str, Any]:
    """Write which version of the data a source means now."""
    with step_run("version-data", out=out, source=source.named()) as run:
        return run.result(steps.resolve_version(Path(out), source))


def prepare_version(source: str, category: str, out: Path, params: ParamsLike) -> dict[str, Any]:
    """Fetch one category of a resolved version (its `source`, as JSON), decode it, and drop the pictures."""
    resolved = DataSource.from_json(source)
    with local_copy(resolved, category) as data_dir:
        inputs = {"data": data_dir / category}
        with step_run("prepare", category, out=out, params=params, inputs=inputs, source=resolved.named()) as run:
            return run.result(steps.prepare(data_dir, category, Path(out), params))


def prepare(
    data_dir: Path, category: str, out: Path, params: ParamsLike, *, allow_unpinned: bool = False
) -> dict[str, Any]:
    """Decode one category."""
    inputs = {"data": Path(data_dir) / category}
    if not inputs["data"].is_dir():  # before the finished run of this folder is touched
        check_pinned(data_dir, category)
    with step_run("prepare", category, out=out, params=params, inputs=inputs) as run:
        return run.result(steps.prepare(data_dir, category, out, params, allow_unpinned=allow_unpinned))


def synthesize(out: Path, params: ParamsLike) -> dict[str, int]:
    """Make the defect bank."""
    with step_run("synthesize", out=out, params=params) as run:
        return run.result(steps.synthesize(out, params))


def train(
    step: Callable[..., dict[str, float]], out: Path, params: ParamsLike, work_dir: str | Path, **inputs: Path
) -> dict[str, float]:
    """Run `steps.train_phase1` or `steps.train_phase2`; work_dir: a folder, or s3://BUCKET/PREFIX."""
    name = step.__name__.replace("_", "-")
    for path in inputs.values():  # before the finished run of this folder is touched
        if not Path(path).is_dir():
            raise ValueError(f"no folder {path} (check the path, or run the step that makes it)")
    with (
        _local_work_dir(work_dir, name.removeprefix("train-"), inputs["prepared"]) as folder,
        step_run(name, out=out, params=params, inputs=inputs, work_dir=folder) as run,
    ):
        pictures = {"pictures_dir": run.pictures_dir} if step is steps.train_phase2 else {}
        return run.result(step(**inputs, out=out, params=params, work_dir=folder, **pictures))


def evaluate(
    prepared: Path,
    model: Path,
    out: Path,
    params: ParamsLike,
    *,
    engine: str = "torch",
    precision: str | None = None,
) -> dict[str, Any]:
    """Judge the test images, with another engine than torch if the model has it; the report shows the champion, too."""
    # both are read before the finished run of this folder is touched
    category, package, champion = PreparedData.load(prepared).manifest.category, read_package(Path(model)), None
    if has_server() and not is_off():
        from ndpnet.tracking.models import champion_summary

        champion = champion_summary(category)
    inputs = {"prepared": prepared, "model": model}
    if engine != "torch":
        inputs["engine"], _ = read_engine(package, engine, precision)
    with step_run("evaluate", out=out, params=params, inputs=inputs) as run:
        arguments = (prepared, model, out, params, report_identity())
        return run.result(steps.evaluate(*arguments, engine=engine, precision=precision, champion=champion))


def register(
    model: Path, evaluation: Path, out: Path, *, import_report: Path | None = None, resolved: Path | None = None
) -> dict[str, Any]:
    """Register a package with its evaluation and card in the model registry, once; write registered.json.

    import_report: names the licence, if it is there; resolved: the version of the data that it was made from.
    -> name, version, run_id, model_id, package_hash, tags.
    """
    from ndpnet.model_card import read_licence
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


def _local_work_dir(place: str | Path, step: str, prepared: Path) -> AbstractContextManager[Path]:
    if not is_on_s3(place):
        return nullcontext(Path(place))
    from ndpnet.storage.workdir import local_work_dir

    return local_work_dir(str(place), category=PreparedData.load(prepared).manifest.category, step=step)
