"""The evaluate step on more test images than it keeps maps of."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks import Brightness
from PIL import Image
from samples import CATEGORY, Pipeline, write_picture
from skimage.data import brick

from ndpnet.data.manifest import GOOD
from ndpnet.data.prepared import PreparedData
from ndpnet.data.roi import ROI, write_roi
from ndpnet.evaluation import evaluate
from ndpnet.inference import Inspector
from ndpnet.inference.calibration import calibrate
from ndpnet.inference.identity import package_hash
from ndpnet.inference.package import write_config
from ndpnet.inference.rules import RULES, Rules, Zone


def test_without_kept_maps_it_says_the_same_to_within_the_stated_error(
    pipeline: Pipeline, trained_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = (pipeline.prepared_dir, trained_dir)
    exact = evaluate.evaluate_package(*inputs, tmp_path / "exact", pipeline.params, {})
    sizes = [image.shape for image in PreparedData.load(pipeline.prepared_dir).images("test")]
    assert len(set(sizes)) > 1
    num_pixels = sum(height * width for height, width, _ in sizes)
    monkeypatch.setattr(evaluate, "judge", partial(evaluate.judge, max_exact_pixels=num_pixels - 1))
    streamed = evaluate.evaluate_package(*inputs, tmp_path / "streamed", pipeline.params, {})
    assert any(note.startswith("Too many test images to keep their maps") for note in streamed["notes"])
    judged = evaluate.judge(PreparedData.load(inputs[0]), Inspector.load(trained_dir))
    _, errors = judged.tally.stream_of(judged.tally.streams).metrics()
    for name, error in zip(("pixel_auroc", "pro_auc"), errors, strict=True):
        assert abs(streamed[name]["value"] - exact[name]["value"]) <= error < 0.01
    for name in ("image_auroc", "recall", "false_alarm_rate", "confusion", "num_good", "num_defective", "has_masks"):
        assert streamed[name] == exact[name]
    # what is drawn is computed again: to the bit
    for folder in ("overlays", "."):
        for path in (tmp_path / "exact" / folder).iterdir():
            if path.name in ("predictions.csv", "roc.csv", "loss_phase1.csv") or folder == "overlays":
                assert (tmp_path / "streamed" / folder / path.name).read_bytes() == path.read_bytes()
    assert len((tmp_path / "streamed/pro.csv").read_text().splitlines()) > 10


def test_calibration_pictures_that_are_not_at_hand_are_named(pipeline: Pipeline, tmp_path: Path) -> None:
    good_dir, model_dir = tmp_path / "good", tmp_path / "model"
    for number in range(3):
        write_picture(good_dir / f"new_p{number}_0.png", brick()[number * 90 : number * 90 + 80, 300:396])
    highest = calibrate(pipeline.model_dir, good_dir, model_dir)["highest"]
    evaluate.evaluate_package(pipeline.prepared_dir, model_dir, tmp_path / "evaluation", pipeline.params, {})
    report = (tmp_path / "evaluation/report.html").read_text(encoding="utf-8")
    assert sorted(each["path"] for each in highest) == [f"new_p{number}_0.png" for number in range(3)]
    assert all(each["path"] in report for each in highest)
    assert not list((tmp_path / "evaluation/overlays").glob("calibration_*"))


def test_the_champion_stands_beside_the_figures_if_it_was_judged_on_the_same_images(
    pipeline: Pipeline, evaluation_dir: Path, tmp_path: Path
) -> None:
    assert "champion" not in (evaluation_dir / "report.html").read_text(encoding="utf-8")
    summary = json.loads((evaluation_dir / "metrics.json").read_text())
    other = summary | {"model_hash": "0" * 64, "recall": {"value": 0.4321, "low": 0.1, "high": 0.9}}

    def compared(theirs: dict[str, Any]) -> dict[str, Any]:
        return evaluate.compare_with_champion(summary, {"version": 3, "summary": theirs})

    own = compared(summary)
    assert (own["metrics"], own["sentence"]) == (None, "This model is the champion, version 3.")
    recalibrated = summary | {"threshold": summary["threshold"] | {"value": 0.9}}
    assert compared(recalibrated)["metrics"] == recalibrated
    elsewhere = compared(other | {"test_images_hash": "0" * 64})
    assert elsewhere["metrics"] is None
    assert elsewhere["sentence"].startswith("The champion, version 3, was judged on other test images.")
    inputs = (pipeline.prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params, {})
    evaluate.evaluate_package(*inputs, champion={"version": 3, "summary": other})
    shown = (tmp_path / "evaluation/report.html").read_text(encoding="utf-8")
    assert "<th>champion, version 3</th>" in shown
    assert '<td class="number" data-label="champion">43.2 % (10.0–90.0)</td>' in shown
    assert compared(other)["sentence"] in shown
    assert package_hash(pipeline.model_dir)[:12] in shown, "not the name that the registry has for it"


def test_a_defect_in_a_zone_where_nothing_counts_is_left_out() -> None:
    masks = np.zeros((3, 64, 64), dtype=bool)
    masks[1, :8, :8] = masks[2, :8, 56:] = True
    types = (GOOD, "hole", "hole")
    records = [SimpleNamespace(path=str(row), group=str(row), defect_type=name) for row, name in enumerate(types)]
    images = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    prepared = SimpleNamespace(images=lambda _: images, masks=lambda: masks, records=lambda _: records)
    left = Zone(name="label", box=[0, 0, 32, 64], factor=None)
    inspector = Inspector(Brightness(), input_size=(64, 64), rules=Rules(width=64, height=64, zones=(left,)))
    judged = evaluate.judge(prepared, inspector)
    assert (judged.num_left_out, [record.path for record in judged.records]) == (1, ["0", "2"])
    assert judged.roi.sum() == 32 * 64


def test_pictures_that_rules_or_region_are_not_meant_for_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    model_dir = shutil.copytree(pipeline.model_dir, tmp_path / "model")

    def refused(message: str) -> None:
        write_config(model_dir, json.loads((model_dir / "config.json").read_text()))
        with pytest.raises(ValueError, match=message):
            evaluate.evaluate_package(pipeline.prepared_dir, model_dir, tmp_path / "out", pipeline.params, {})
        assert not (tmp_path / "out").exists()

    write_roi(model_dir / ROI, np.ones((45, 50), dtype=bool))
    refused(r"test/\S+ has \d+x\d+ pixels, the region of interest 50x45, of another aspect")
    (model_dir / RULES).write_text(Rules(width=80, height=80, smallest_defect=9).model_dump_json())
    refused(r"pixels, the model's rules are for 80x80 \(calibrate anew, with rules")


def test_a_picture_that_a_person_should_look_at_is_called_so(pipeline: Pipeline, tmp_path: Path) -> None:
    for path in (pipeline.data_dir / CATEGORY / "train/good").iterdir():
        write_picture(tmp_path / "good" / f"n{path.name}", np.asarray(Image.open(path))[::-1].copy())
    calibrate(pipeline.model_dir, tmp_path / "good", tmp_path / "model", review_rate=0.5, target_rate=0.3)
    evaluate.evaluate_package(pipeline.prepared_dir, tmp_path / "model", tmp_path / "out", pipeline.params, {})
    inspector = Inspector.load(tmp_path / "model")
    with (tmp_path / "out/predictions.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    words = {(True, True): "defective", (False, True): "review", (False, False): "good"}
    for row in rows:
        score = float(row["score"])
        assert row["verdict"] == words[score > inspector.threshold, score > inspector.review_threshold]
    assert "review" in {row["verdict"] for row in rows}
