"""A model that says the same of every picture: chance in every metric, no alarm, no crash."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.data.prepared import PreparedData
from ndpnet.inference import Inspector
from ndpnet.inference.calibration import calibrate
from ndpnet.inference.folder import FolderResult, inspect_folder
from ndpnet.inference.package import CONFIG, WEIGHTS, read_package, write_config


@pytest.fixture(scope="module")
def blind_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose segmentation heads are zero, calibrated: all scores are one, and the threshold is it."""
    folder = tmp_path_factory.mktemp("blind")
    shutil.copytree(pipeline.model_dir, folder / "zero")
    state = load_file(folder / "zero" / WEIGHTS)
    heads = {name: torch.zeros_like(value) for name, value in state.items() if name.startswith("segmentation.")}
    save_file(state | heads, folder / "zero" / WEIGHTS)
    write_config(folder / "zero", json.loads((folder / "zero" / CONFIG).read_text()))
    (folder / "good").mkdir()
    for record in PreparedData.load(pipeline.prepared_dir).records("calibration"):
        shutil.copy(pipeline.data_dir / CATEGORY / record.path, folder / "good")
    calibrate(folder / "zero", folder / "good", folder / "model")
    return folder / "model"


def test_the_threshold_is_the_one_score(blind_dir: Path) -> None:
    record = read_package(blind_dir).threshold
    assert 0 < record["value"] < 1
    assert (record["num_images"], record["guaranteed_rate"], record["unit_rate"]) == (6, 1 / 4, 1 / 4)
    assert [(each["score"], each["value_without"]) for each in record["highest"]] == [(record["value"],) * 2] * 6


def test_a_score_at_the_threshold_is_good(blind_dir: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    inspector = Inspector.load(blind_dir)
    assert inspect_folder(inspector, pipeline.data_dir / CATEGORY / "test", tmp_path / "out") == FolderResult(12, 0, 0)
    rows = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert {row["score"] for row in rows} == {inspector.threshold}
    assert {(row["verdict"], row["num_regions"]) for row in rows} == {("good", 0)}


def test_metrics_are_those_of_chance(blind_dir: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    summary = steps.evaluate(pipeline.prepared_dir, blind_dir, tmp_path / "evaluation", pipeline.params)
    of_chance = {"image_auroc": 0.5, "pixel_auroc": 0.5, "pro_auc": 0.15}  # half of the area up to 0.3, over 0.3
    of_silence = {"recall": 0, "recall_overlap": 0, "f1": 0, "false_alarm_rate": 0}
    for name, value in (of_chance | of_silence).items():
        interval = summary[name]
        assert interval["value"] == pytest.approx(value, abs=1e-9), name
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert summary["precision"] is None
    assert "No test image is called defective: precision is n/a." in summary["notes"]
    counts = {"true_positive": 0, "false_positive": 0, "true_negative": 6, "false_negative": 6}
    assert summary["confusion"] == counts
    report = (tmp_path / "evaluation/report.html").read_text()
    assert "No test image is called defective: precision is n/a." in report
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"')]*", "", report))
    assert len(list((tmp_path / "evaluation/overlays").glob("*.png"))) >= 6
