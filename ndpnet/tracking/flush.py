"""Delivering later what could not be delivered when it was made."""

import logging
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ndpnet.redaction import redact
from ndpnet.tracking import client as settings
from ndpnet.tracking.record import Record, is_process_alive, records_below

if TYPE_CHECKING:
    from mlflow import MlflowClient

FAILED = "not delivered: "

logger = logging.getLogger(__name__)


def flush(build_dir: Path) -> Iterator[tuple[str, str]]:
    """Deliver every run noted in a folder or below it. -> what and how it went, one by one. ValueError: no folder."""
    build_dir = Path(build_dir)
    if not build_dir.is_dir():
        raise ValueError(f"no folder {build_dir} (give the one that the steps write to, as build)")
    yield from deliver_all(records_below(build_dir))
    try:
        yield from end_killed(settings.connect())
    except Exception as error:
        yield "killed runs", f"{FAILED}{redact(error)[:300]}"


def end_killed(client: "MlflowClient") -> Iterator[tuple[str, str]]:
    """End the runs that the server has as running, of processes of this machine that are gone without a record."""
    from ndpnet.tracking.runs import PROCESS

    experiment = settings.experiment_id(client)
    wanted = f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` LIKE '{socket.gethostname()} %'"
    for run in client.search_runs([experiment], wanted):
        pid, started = run.data.tags[PROCESS].split(" ")[1:]
        if not is_process_alive(int(pid), float(started)):
            client.set_terminated(run.info.run_id, "KILLED")
            yield run.info.run_name or run.info.run_id, "its process is gone without a trace: ended as killed"


def deliver_all(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """Deliver the records that are not yet, each by itself. -> their names, and what became of them."""
    from ndpnet.tracking.delivery import deliver

    for record in records:
        if record.is_delivered:
            continue
        if record.is_alive():
            if not record.is_mine:
                yield record.name, f"still running as process {record.pid} on {record.host}, which delivers it"
            continue
        try:
            run_id = deliver(settings.connect(), record)
        except Exception as error:  # one that the server refuses must not keep the others back
            yield record.name, f"{FAILED}{redact(error)[:300]}"
        else:
            yield record.name, f"{record.status}, delivered as run {run_id}"
