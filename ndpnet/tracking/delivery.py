"""Bringing a record to the tracking server; doing it twice, or after half of it was done, changes nothing.

Rows of a history carry no time, since a history is part of a model's bytes. Their timestamps are those of the run's
start plus one millisecond per step: so a row that is sent again is the same row to the server, which keeps one. A row
at or before the last step that the server has of its name is not sent: a resumed training writes its last steps anew.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE, MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from ndpnet.tracking.client import experiment_id
from ndpnet.tracking.flat import MAX_TAG, metric_key, shorten
from ndpnet.tracking.record import FILES, PICTURES, SYSTEM, Record, records_of
from ndpnet.tracking.runs import ENDS, PROCESS, find_step, pipeline_run, step_run, update_parent
from ndpnet.tracking.tail import Row, Tail

VALIDATION = "validation"  # also the folder of its pictures
ERROR = "ndpnet.error"
OWN_NAMES = {"lr": "learning_rate"}
GROUPED = (f"{VALIDATION}/", "train/", "system/")

logger = logging.getLogger(__name__)


class Delivery:
    """The run of one record on the server. Any call may raise what MLflow raises; then make a new one and go on."""

    def __init__(self, client: MlflowClient, record: Record) -> None:
        self.client, self.record = client, record
        self.experiment = experiment_id(client)
        self.parent = pipeline_run(client, self.experiment, record)
        self.run, self._is_old = step_run(client, self.experiment, record, self.parent)
        self._last_steps: dict[str, int] = {}
        self._sent_files: set[Path] = set()
        self._describe()

    @property
    def run_id(self) -> str:
        """Of the step's run."""
        return self.run.info.run_id

    def send_rows(self, rows: list[Row]) -> int:
        """Deliver rows of a history or of the system. -> how many metrics were new"""
        metrics = [metric for row in rows for metric in self._metrics_of(row)]
        for batch in _batches(metrics, MAX_METRICS_PER_BATCH):
            self.client.log_batch(self.run_id, metrics=batch)
            for metric in batch:
                self._last_steps[metric.key] = max(metric.step, self._last_steps[metric.key])
        return len(metrics)

    def send_tail(self, tail: Tail) -> int:
        """Deliver what a growing file has beyond what was delivered of it. -> how many metrics were new"""
        num_new = 0
        while True:
            rows, end = tail.read()
            if end == tail.position:
                return num_new
            num_new += self.send_rows(rows)
            tail.advance(end)

    def send_pictures(self) -> None:
        """Deliver validation pictures that are not there yet."""
        self._send_folder(self.record.folder / PICTURES, VALIDATION)

    def finish(self) -> None:
        """Deliver results, data, files and the end; the server has all of it when this returns."""
        record = self.record
        if record.history_path:
            self.send_tail(Tail(record.history_path))
        self.send_tail(Tail(record.folder / SYSTEM))
        results = [Metric(metric_key(name), value, record.started_at, 0) for name, value in record.results.items()]
        for batch in _batches(results, MAX_METRICS_PER_BATCH):
            self.client.log_batch(self.run_id, metrics=batch)
        self._send_dataset()
        self.send_pictures()
        self._send_folder(record.folder / FILES, "")
        self._send_tags({**record.tags, ERROR: record.error})
        if ERROR in self.run.data.tags and not record.error:
            self.client.delete_tag(self.run_id, ERROR)  # of an earlier attempt
        self.client.set_terminated(self.run_id, ENDS[record.status], record.ended_at)
        self._summarise()
        update_parent(self.client, self.experiment, self.parent)
        record.mark_delivered()

    def _describe(self) -> None:
        """Parameters where missing, the tags of this attempt, and that it runs."""
        for run in (self.parent, self.run):
            self._send_params(run)
        attempt = {"ndpnet.attempts": str(self.record.attempts), PROCESS: self.record.process}
        self._send_tags({**attempt, **self._input_runs()})
        if self.record.status == "running":
            for run in (self.parent, self.run):
                if run.info.status != "RUNNING":
                    self.client.update_run(run.info.run_id, status="RUNNING")

    def _send_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags where they differ."""
        changed = [RunTag(key, shorten(value, MAX_TAG)) for key, value in tags.items() if value]
        changed = [tag for tag in changed if self.run.data.tags.get(tag.key) != tag.value]
        for batch in _batches(changed, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.run_id, tags=batch)

    def _send_params(self, run: Run) -> None:
        # one writer each: a step's are part of its key and cannot change, a pipeline's are those of its first step
        missing = [Param(key, value) for key, value in self.record.params.items() if key not in run.data.params]
        for batch in _batches(missing, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(run.info.run_id, params=batch)

    def _input_runs(self) -> dict[str, str]:
        """The runs that made the inputs, whether in this pipeline or, from a cache, in an earlier one."""
        links = {}
        for name, folder in self.record.inputs.items():
            made = [each for each in records_of(Path(folder)) if each.status == "finished"]
            latest = max(made, key=lambda each: each.ended_at or 0, default=None)
            run = latest and find_step(self.client, self.experiment, latest)
            if run:
                links[f"ndpnet.input.{name}"] = run.info.run_id
        return links

    def _metrics_of(self, row: Row) -> Iterator[Metric]:
        step = int(row["step"])
        timestamp = int(row.get("time", self.run.info.start_time + step))
        for name, value in row.items():
            key = metric_key(_full_name(name))
            if name not in ("step", "time") and isinstance(value, int | float) and step > self._last_step(key):
                yield Metric(key, float(value), timestamp, step)

    def _last_step(self, key: str) -> int:
        """The last step that the server has of a metric; -1: none."""
        if key not in self._last_steps:
            known = self._is_old and key in self.run.data.metrics
            history = self.client.get_metric_history(self.run_id, key) if known else []
            self._last_steps[key] = max((metric.step for metric in history), default=-1)
        return self._last_steps[key]

    def _send_dataset(self) -> None:
        data = self.record.dataset
        if not data:
            return
        dataset = Dataset(
            name=data["name"],
            digest=data["digest"][:MAX_DATASET_DIGEST_SIZE],  # the whole is in the profile and a tag
            source_type=data["source_type"],
            source=json.dumps(data["source"]),
            profile=json.dumps(data["profile"]),
        )
        tags = [InputTag("mlflow.data.context", data["context"])]
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
        self.client.set_tag(self.run_id, "ndpnet.data_hash", data["digest"])

    def _send_folder(self, folder: Path, stored_path: str) -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and not _is_unfinished(path)):
            if path not in self._sent_files:
                parent = path.relative_to(folder).parent.as_posix()
                parts = [part for part in (stored_path, parent) if part not in ("", ".")]
                # one by one in this thread: MLflow's pool of threads would hold up the end of the process
                self.client.log_artifact(self.run_id, str(path), "/".join(parts) or None)
                self._sent_files.add(path)

    def _summarise(self) -> None:
        """The evaluation's main numbers on the pipeline's run, one set per category."""
        record = self.record
        if record.step != "evaluate":
            return
        kept = {name: value for name, value in record.results.items() if "." not in name}
        prefix = record.category
        metrics = [Metric(metric_key(f"{prefix}/{name}"), value, record.started_at, 0) for name, value in kept.items()]
        for batch in _batches(metrics, MAX_METRICS_PER_BATCH):
            self.client.log_batch(self.parent.info.run_id, metrics=batch)


def deliver(client: MlflowClient, record: Record) -> str:
    """Bring all of a record that has ended, or whose process is gone, to the server. -> the run's id"""
    if record.status == "running":
        record.end("killed", "the process was killed")
        record.save()
    delivery = Delivery(client, record)
    delivery.finish()
    return delivery.run_id


def _full_name(name: str) -> str:
    if name in OWN_NAMES or name.startswith(GROUPED):
        return OWN_NAMES.get(name, name)
    return f"train/{name}"


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _is_unfinished(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".partial"
