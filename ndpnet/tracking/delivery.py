"""Bringing a record to the tracking server; doing it twice, or after half of it was done, changes nothing.

Rows of a history carry no time, since a history is part of a model's bytes. Their timestamps are those of the run's
start plus one millisecond per step: so a row that is sent again is the same row to the server, which keeps one. A row
at or before the last step that the server has of its name is not sent: a resumed training writes its last steps anew.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils import chunk_list
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE, MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from ndpnet.redaction import redact
from ndpnet.tracking import client as settings
from ndpnet.tracking.flat import MAX_TAG, metric_key, shorten
from ndpnet.tracking.record import FILES, HISTORY, PICTURES, Record, records_below, records_of
from ndpnet.tracking.runs import find_step, pipeline_run, step_run, update_parent

VALIDATION = "validation"  # also the folder of its pictures
ERROR = "ndpnet.error"
FAILED = "not delivered: "
MAX_REASON = 300  # characters

Row = dict[str, Any]


class Delivery:
    """The run of one record on the server. Any call may raise what MLflow raises; then make a new one and go on."""

    def __init__(self, client: MlflowClient, record: Record) -> None:
        self.client, self.record = client, record
        self.experiment = settings.experiment_id(client)
        self.parent = pipeline_run(client, self.experiment, record)
        self.run = step_run(client, self.experiment, record, self.parent)
        self.run_id = self.run.info.run_id
        self._last_steps: dict[str, int] = {}  # that the server has, by metric
        self._sent: set[Path] = set()
        self._describe()

    def send(self, *, is_last: bool) -> None:
        """Deliver what lies there now and, if the step has ended, its end: then the server has all of it."""
        self._send_rows(self.record.folder / HISTORY)
        self._send_folder(self.record.folder / PICTURES, VALIDATION)
        if is_last:
            self._send_end()

    def _send_end(self) -> None:
        record = self.record
        self._send_metrics(self.run_id, self._at_start(record.results))
        self._send_dataset()
        self._send_folder(record.folder / FILES, "")
        self._send_tags({**record.tags, ERROR: record.error})
        if ERROR in self.run.data.tags and not record.error:
            self.client.delete_tag(self.run_id, ERROR)  # of an earlier attempt
        self.client.set_terminated(self.run_id, record.status.upper(), record.ended_at)
        # the main numbers on the pipeline's run, one set per category: the model's own, not another engine's
        if record.step == "evaluate" and "engine" not in record.inputs:
            main = {f"{record.category}/{name}": value for name, value in record.results.items() if "." not in name}
            self._send_metrics(self.parent.info.run_id, self._at_start(main))
        update_parent(self.client, self.experiment, self.parent)
        record.mark_delivered()

    def _describe(self) -> None:
        """Parameters where missing, the tags of this attempt, and that it runs."""
        # one writer each: a step's are part of its key and cannot change, a pipeline's are those of its first step
        for run in (self.parent, self.run):
            missing = [Param(key, value) for key, value in self.record.params.items() if key not in run.data.params]
            for batch in chunk_list(missing, MAX_PARAMS_TAGS_PER_BATCH):
                self.client.log_batch(run.info.run_id, params=batch)
            if self.record.status == "running" and run.info.status != "RUNNING":
                self.client.update_run(run.info.run_id, status="RUNNING")
        self._send_tags({"ndpnet.attempts": str(self.record.attempts), **self._input_runs()})

    def _send_tags(self, tags: Mapping[str, str]) -> None:
        changed = [RunTag(key, shorten(value, MAX_TAG)) for key, value in tags.items() if value]
        changed = [tag for tag in changed if self.run.data.tags.get(tag.key) != tag.value]
        for batch in chunk_list(changed, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.run_id, tags=batch)

    def _input_runs(self) -> dict[str, str]:
        """The runs that made the inputs, whether in this pipeline or, from a cache, in an earlier one."""
        links = {}
        for name, folder in self.record.inputs.items():
            finished = [record for record in records_of(Path(folder)) if record.status == "finished"]
            latest = max(finished, key=lambda record: record.ended_at or 0, default=None)
            if latest and (run := find_step(self.client, self.experiment, latest)):
                links[f"ndpnet.input.{name}"] = run.info.run_id
        return links

    def _send_rows(self, path: Path) -> None:
        """Deliver the rows of a growing file that the server has not; one that is being written is not whole yet."""
        rows = rows_from(path, max(self._last_steps.values(), default=0))
        metrics = [metric for row in rows for metric in self._metrics_of(row)]
        self._send_metrics(self.run_id, metrics)
        self._last_steps |= {metric.key: metric.step for metric in metrics}

    def _metrics_of(self, row: Row) -> Iterator[Metric]:
        step = row["step"]
        for name, value in row.items():
            key = metric_key(_full_name(name))
            if name != "step" and isinstance(value, int | float) and step > self._last_step(key):
                yield Metric(key, float(value), self.run.info.start_time + step, step)

    def _last_step(self, key: str) -> int:
        """The last step that the server has of a metric; -1: none."""
        if key not in self._last_steps:
            known = self.client.get_metric_history(self.run_id, key) if key in self.run.data.metrics else []
            self._last_steps[key] = max((metric.step for metric in known), default=-1)
        return self._last_steps[key]

    def _at_start(self, values: Mapping[str, float]) -> list[Metric]:
        return [Metric(metric_key(name), value, self.record.started_at, 0) for name, value in values.items()]

    def _send_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        for batch in chunk_list(metrics, MAX_METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=batch)

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
        for run_id in (self.run_id, *([self.parent.info.run_id] if self.record.step == "prepare" else [])):
            self.client.log_inputs(run_id, [DatasetInput(dataset, tags)])
        self.client.set_tag(self.run_id, "ndpnet.data_hash", data["digest"])

    def _send_folder(self, folder: Path, stored_path: str) -> None:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name.startswith(".") or path in self._sent:
                continue
            parent = path.relative_to(folder).parent.as_posix()
            parts = [part for part in (stored_path, parent) if part not in ("", ".")]
            # one by one in this thread: MLflow's pool of threads would hold up the end of the process
            self.client.log_artifact(self.run_id, str(path), "/".join(parts) or None)
            self._sent.add(path)


def rows_from(path: Path, step: int) -> Iterable[Row]:
    """The whole rows of a file of JSON lines at a step and after it; it may be written, cut or replaced meanwhile."""
    rows: list[Row] = []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return rows
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the torn line that a full disk leaves
        if row["step"] < step:
            break
        rows.append(row)
    return reversed(rows)


def deliver_all(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """Deliver the records that are not yet, each by itself. -> their names, and what became of them."""
    for record in records:
        if record.is_delivered:
            continue
        if record.is_alive():
            yield record.name, "still running: its process delivers it"
            continue
        try:
            if record.status == "running":
                record.end("killed", "the process was killed")
                record.save()
            delivery = Delivery(settings.connect(is_begun=False), record)
            delivery.send(is_last=True)
        except Exception as error:  # one that the server refuses must not keep the others back
            yield record.name, f"{FAILED}{redact(error)[:MAX_REASON]}"
        else:
            yield record.name, f"{record.status}, delivered as run {delivery.run_id}"


def flush(build_dir: Path) -> Iterator[tuple[str, str]]:
    """Deliver every run noted in a folder or below it. -> what and how it went, one by one. ValueError: no folder."""
    build_dir = Path(build_dir)
    if not build_dir.is_dir():
        raise ValueError(f"no folder {build_dir} (give the one that the steps write to, as build)")
    yield from deliver_all(records_below(build_dir))


def _full_name(name: str) -> str:
    """The server's name of a history's value: `train/loss`, but what has a group keeps it."""
    if name == "lr":
        return "learning_rate"
    return name if "/" in name else f"train/{name}"
