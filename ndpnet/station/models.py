"""The models of a station: opened from a folder or the registry, with what is known of them and their calibration."""

import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndpnet.inference.identity import package_hash
from ndpnet.inference.inspector import Inspector
from ndpnet.metrics.drift import LineWatch
from ndpnet.metrics.threshold import promised_rate
from ndpnet.station.config import DriftConfig, LineConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Good pictures that the model was not trained on; lists run over pictures."""

    scores: list[float]
    groups: list[str]
    properties: dict[str, list[float]]

    def promised_rate(self, threshold: float) -> float:
        """At most this share of new good pictures is above it, as for the model's own threshold."""
        return promised_rate(self.scores, self.groups, threshold)

    def watch(self, threshold: float, drift: DriftConfig) -> LineWatch:
        """What notices that a line is no longer as these pictures, judged by this threshold."""
        independent = self.one_per_group()
        return LineWatch(
            independent.scores,
            independent.properties,
            threshold=threshold,
            highest_rate=self.promised_rate(threshold) + drift.highest_defect_rate,
            pictures_per_false_alarm=drift.pictures_per_false_alarm,
        )

    def one_per_group(self) -> "Calibration":
        """The first picture of each independent unit: what a test that counts pictures may take."""
        first = {group: index for index, group in reversed(list(enumerate(self.groups)))}
        indices = sorted(first.values())
        properties = {name: [values[index] for index in indices] for name, values in self.properties.items()}
        return Calibration([self.scores[i] for i in indices], [self.groups[i] for i in indices], properties)


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready to judge."""

    inspector: Inspector
    facts: dict[str, Any]
    own_record: dict[str, Any]  # what it says of its own threshold, whichever is in force
    calibration: Calibration

    @property
    def hash(self) -> str:
        """Of the package."""
        return self.facts["hash"]

    @property
    def engine(self) -> str:
        """Its name, with the precision."""
        return self.facts["engine"]


def open_model(line: LineConfig, cache_dir: Path, last: dict[str, Any] | None = None) -> OpenModel:
    """Open the model of a line, from the registry by way of `cache_dir`. ValueError in one line.

    last: facts of the model that the line has used last, to go on with while the registry is away.
    """
    folder, origin = _folder_of(line, cache_dir, last)
    inspector = Inspector.load(folder, engine=line.engine, precision=line.precision)
    record = inspector.threshold_record
    if record is None:
        raise ValueError(f"the model {line.model} of line {line.name} has no threshold (run `ndpnet calibrate`)")
    facts = {"hash": package_hash(folder), "model": line.model} | origin | _facts(inspector, record)
    return OpenModel(inspector, facts, record, Calibration(**record["calibration"]))


def remove_others(cache_dir: Path, used: Collection[str]) -> None:
    """Remove the packages from the registry that have none of these hashes."""
    for folder in cache_dir.glob("[!.]*"):
        if not any(folder.name.endswith(_short(digest)) for digest in used):
            logger.info("removed the model %s, which no line uses or would go back to", folder.name)
            shutil.rmtree(folder)


def wished_hash(line: LineConfig) -> str | None:
    """Hash of the package that the registry's alias names now; None of a folder. ValueError: it does not answer."""
    if line.registered is None:
        return None
    from ndpnet.tracking.versions import resolve_version

    return resolve_version(*line.registered)[1]


def _folder_of(line: LineConfig, cache_dir: Path, last: dict[str, Any] | None) -> tuple[Path, dict[str, Any]]:
    """The package's folder, and what the registry knows of it: its version, and the commit that has trained it."""
    if line.registered is None:
        return Path(line.model), {"version": None, "commit": None}
    from ndpnet.tracking.models import download_package
    from ndpnet.tracking.versions import RegistryError, resolve_version

    def cached(version: int, digest: str) -> Path:
        return cache_dir / f"{name}-{version}-{_short(digest)}"

    name, ref = line.registered
    try:
        version, digest, commit = resolve_version(name, ref)
    except RegistryError as error:
        # the same name and alias or number as then
        if last is None or last["model"] != line.model or not cached(last["version"], last["hash"]).is_dir():
            raise
        logger.warning("%s; %s goes on with version %s, which was in use", error, line.name, last["version"])
        origin = {"version": last["version"], "commit": last.get("commit")}
        return cached(last["version"], last["hash"]), origin
    return download_package(name, version, cached(version, digest)), {"version": version, "commit": commit}


def _short(digest: str) -> str:
    return digest[:12]


def _facts(inspector: Inspector, record: dict[str, Any]) -> dict[str, Any]:
    """What a person may ask of a model; record: of its own threshold."""
    package, review = inspector.opened_package, record.get("review")
    return {
        "category": package.config["category"],
        "engine": inspector.engine_name,
        "threshold": inspector.threshold,
        "review_from": review["value"] if review else None,
        **{name: record[name] for name in ("statement", "guaranteed_rate", "highest")},
        **{name: package.config["lineage"][name] for name in ("training_data_hash", "code_hash", "params_hash")},
    }
