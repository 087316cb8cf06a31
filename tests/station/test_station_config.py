"""What a station is told, and what it says of mistakes."""

from functools import partial
from pathlib import Path

import pytest
import yaml
from samples import Pipeline
from stations import command

from ndpnet.station.config import load_station

LINE = {"name": "wall", "model": "model"}
SEEN = {"source": "in", "done_dir": "done"}
BUS, SENT = {"host": "broker", "topic": "line/+"}, {"name": "a", "kind": "mqtt"}
FILE = {"name": "a", "kind": "csv", "path": "verdicts.csv"}


def write(folder: Path, values) -> Path:
    path = folder / "station.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_line_has_the_defaults_and_paths_are_seen_from_the_files_folder(tmp_path):
    values = {"line": {"engine": "onnx"}, "lines": [LINE | {"source": "in"}], "server": {"port": 9000}}
    config = load_station(write(tmp_path, values))
    line = config.lines[0]
    assert (line.engine, line.settle_seconds, line.registered) == ("onnx", 1.0, None)
    assert (line.source, line.model) == (tmp_path / "in", str(tmp_path / "model"))
    assert (config.server.host, config.server.port, config.folder) == ("127.0.0.1", 9000, tmp_path / "station")


def test_a_model_of_the_registry_is_no_path(tmp_path):
    lines = [LINE | {"model": "models:/ndpnet-wall@champion"}, {"name": "b", "model": "models:/ndpnet-wall/3"}]
    config = load_station(write(tmp_path, {"lines": lines}))
    assert [line.registered for line in config.lines] == [("ndpnet-wall", "champion"), ("ndpnet-wall", "3")]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lines": [LINE | {"modell": "x"}]}, "lines.0.modell' \\(did you mean 'model'\\?\\)$"),
        ({"lines": [LINE], "line": 5}, "setting 'line' is no table of settings"),
        ({"lines": [LINE | {"source": "in", "done_dir": "in/done"}]}, "choose a folder outside of"),
        ({"lines": [LINE | {"source": "in"}], "folder": "in"}, "folder: line wall watches"),
        ({"lines": [LINE | SEEN, LINE | SEEN | {"name": "b"}]}, "wall and b watch the same pictures"),
        ({"lines": [LINE], "sinks": [FILE, FILE | {"name": "b"}]}, "two write to"),
        ({"lines": [LINE | SEEN | {"done_dir": "station/pictures/done"}]}, "done is among what the station itself"),
        ({"lines": [LINE | {"source": "station/models"}]}, "models is among what"),
        ({"lines": [LINE | {"mqtt": BUS}], "sinks": [SENT | BUS | {"topic": "line"}]}, "sink a: line wall takes"),
        ({"lines": LINE}, "setting 'lines': Input should be a valid tuple"),
        ({"lines": [LINE], "sinks": [{"name": "a", "kind": "opcua", "endpoint": "opc.tcp://"}]}, "endpoint"),
        ({"lines": [LINE, LINE]}, "two have the name wall"),
        ({"lines": [LINE | {"name": "../wall"}]}, "name"),
        ({"lines": [LINE | {"model": "models:/only"}]}, "write models:/NAME@ALIAS"),
        ({"lines": [LINE], "server": {"certificate": "a.pem"}}, "go together"),
        ({"lines": [LINE], "sinks": [{"name": "a", "kind": "webhook", "url": "ftp://x"}]}, "url"),
        ({"lines": [LINE], "store": {"keep_days": float("nan")}}, "keep_days"),
        ({"lines": [LINE], "retrain": "dvc"}, "needs a checkout"),
        ({"lines": [LINE], "store": {"url": "https://host/bucket"}}, "no address on S3"),
        ({"lines": [LINE], "journal": "postgresql://user@host/db"}, r"name \(name: "),
        *(
            ({"lines": [LINE], "journal": url}, "no address of PostgreSQL")
            for url in ("mysql://secret@host/db", "postgres")
        ),
        ([1], "not a table"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_thing(tmp_path, values, said):
    with pytest.raises(ValueError, match=said) as caught:
        load_station(write(tmp_path, values))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_name_that_stands_twice_is_no_choice_of_the_last(tmp_path):
    (tmp_path / "station.yaml").write_text("server: {port: 1}\nlines:\n  - {name: a, model: b}\nserver: {port: 2}\n")
    with pytest.raises(ValueError, match=r"station.yaml: server stands twice \(lines 1 and 4\)$"):
        load_station(tmp_path / "station.yaml")


def test_no_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="--demo"):
        load_station(tmp_path / "none.yaml")


def test_a_check_opens_the_models_and_writes_nothing(pipeline: Pipeline, tmp_path):
    model, check = tmp_path / "model", partial(command, tmp_path, "--check", lines=[LINE | {"source": "in"}])
    assert f"no folder {tmp_path / 'in'} for line wall" in check().stderr
    (tmp_path / "in").mkdir()
    assert str(model) in check().stderr
    model.symlink_to(pipeline.model_dir)
    assert "nothing wrong" in check().stdout
    assert {path.name for path in tmp_path.iterdir()} == {"station.yaml", "in", "model"}
