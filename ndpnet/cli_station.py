"""The verb for the line: a station that watches, judges and is corrected."""

import json
import logging
import signal
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from ndpnet.cli_base import FolderPath

if TYPE_CHECKING:
    from ndpnet.station.config import StationConfig
    from ndpnet.station.station import Station


LINE = "%(asctime)s %(levelname)s %(message)s"  # with the date: a station works for months


class JsonLines(logging.Formatter):
    """A record as an object of JSON in a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC, level, who says it, and what; of a bug the traceback, too."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        about = {"at": at, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            about["traceback"] = self.formatException(record.exc_info)
        return json.dumps(about, ensure_ascii=False)


@click.command("station")
@click.option("--config", "config_path", type=FolderPath, help="The station's file: docs/station.md.")
@click.option("--demo", is_flag=True, help="Run on the demo's pictures with the model of `make demo`.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the page, instead of the file's.")
@click.option("--check", is_flag=True, help="Only check the file, its folders and models.")
@click.option("--add-token", metavar="NAME:ROLE", help="Print a new token; ROLE: camera, reader, operator, engineer.")
@click.option(
    "--export", "export_dir", type=FolderPath, help="Write a line's reviewed pictures there; --line says which."
)
@click.option("--line", help="Line to export; not needed where there is one.")
@click.option("--remove-token", metavar="NAME", help="Take a token away.")
def station(
    config_path: Path | None,
    demo: bool,
    port: int | None,
    check: bool,
    add_token: str | None,
    export_dir: Path | None,
    line: str | None,
    remove_token: str | None,
) -> None:
    """Judge pictures as they come, with a page for people; killed, the same command goes on.

    Pictures come from watched folders, by HTTP and from cameras.
    """
    if (config_path is None) == (not demo):
        raise click.UsageError("give --config FILE, or --demo")
    try:
        from ndpnet.station.config import load_station
        from ndpnet.station.demo import demo_station, feed
        from ndpnet.station.station import check_lines, serve
    except ModuleNotFoundError as error:
        raise ValueError(f"a station needs {error.name} (`pip install 'ndpnet[station]'`)") from error

    config = load_station(config_path) if config_path else demo_station(Path("data"), Path("build"))
    if port is not None:
        config = config.model_copy(update={"server": config.server.model_copy(update={"port": port})})
    if check:
        check_lines(config)
        names = ", ".join(line.name for line in config.lines)
        return click.echo(f"lines {names}: nothing wrong")
    if add_token or remove_token:
        return _change_tokens(config, add_token, remove_token)
    if export_dir is not None:
        return _export(config, line, export_dir)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server has its own handler
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines() if config.logs == "json" else logging.Formatter(LINE))

    def ready(running: "Station", url: str) -> None:
        click.echo(f"the page: {url}")
        if demo:
            feed(running, Path("data"))

    return serve(config, ready)


def _export(config: "StationConfig", line: str | None, out: Path) -> None:
    from ndpnet.station.journal import open_journal
    from ndpnet.station.retrain import CALIBRATION, GROUP_PATTERN, MASKS, PAINTED, export_batch
    from ndpnet.station.store import Store
    from ndpnet.station.tables import MODEL

    names = [entry.name for entry in config.lines]
    name = names[0] if line is None and len(names) == 1 else line
    if name not in names:
        raise ValueError(f"no line {name!r} (--line: one of {', '.join(names)})")
    journal = open_journal(config)
    num_pictures, num_unseen = export_batch(journal, Store(config.folder, config.store.url), name, out)
    click.echo(f"{', '.join(f'{number} {place}' for place, number in num_pictures.items())}: {out}")
    if num_unseen:
        click.echo(f"{num_unseen} pictures of the sample wait for review: before that the threshold may be too high")
    good, painted, masks, calibration = (quote(str(out / part)) for part in ("good", PAINTED, MASKS, CALIBRATION))
    known = journal.last_event(name, MODEL)  # a line that has never judged has no picture to export
    category = quote(known["facts"]["category"] if known else name)
    click.echo(f"next: dvc add {quote(str(out))}")
    click.echo(f"      ndpnet calibrate MODEL {calibration} --group-pattern '{GROUP_PATTERN}' --out NEW")
    click.echo(f"      ndpnet data add {good} --category {category}")
    if num_pictures[PAINTED]:
        click.echo(f"      ndpnet data add {painted} --category {category} --as test/defect --masks {masks}")


def _change_tokens(config: "StationConfig", added: str | None, removed: str | None) -> None:
    from ndpnet.station.journal import open_journal
    from ndpnet.station.security import new_token

    journal = open_journal(config)
    if removed:
        journal.remove_token(removed)
        click.echo(f"{removed} has no token any more")
    if added:
        name, _, role = added.rpartition(":")
        secret = new_token(journal, name, role)
        click.echo(f"{secret}\nthe token of {name}, {role}: it is shown this once")
