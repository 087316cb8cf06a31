"""The steps as functions of folders and parameters: what they write, refuse and leave alone."""

import json
import logging
import shutil
from html import escape
from pathlib import Path

import numpy as np
import pytest
from data_sets import names_in
from repositories import contents
from samples import CATEGORY, NUM_STEPS, Pipeline

from ndpnet import steps
from ndpnet.config import load_params
from ndpnet.files import read_json_lines
from ndpnet.folders import atomic_folder
from ndpnet.inference.package import read_package
from ndpnet.tracking.identity import report_identity


def test_every_step_writes_its_folder_and_nothing_beside(pipeline: Pipeline) -> None:
    assert names_in(pipeline.model_dir.parent) == ["bank", "model", "params.yaml", "phase1", "prepared", "work"]
    histories = ["history_phase1.jsonl", "history_phase2.jsonl"]
    package = [".ndpnet.json", "config.json", *histories, "manifest.json", "reference.png", "weights.safetensors"]
    assert names_in(pipeline.model_dir) == package
    assert names_in(pipeline.phase1_dir) == [".ndpnet.json", "history.jsonl", "phase1.json", "weights.safetensors"]
    assert names_in(pipeline.bank_dir) == [".ndpnet.json", "bank.json", "masks.npy", "sources.npy"]
    assert names_in(pipeline.model_dir.parent / "work") == []  # a finished step removes its checkpoints


def test_what_the_steps_return(pipeline: Pipeline) -> None:
    counts = pipeline.metrics["prepare"]
    assert [counts[f"num_{split}"] for split in ("train", "validation", "calibration", "test")] == [12, 2, 6, 12]
    assert pipeline.metrics["synthesize"]["num_masks"] == 64
    for name, phase_dir in (("train_phase1", "history.jsonl"), ("train_phase2", "history_phase2.jsonl")):
        folder = pipeline.phase1_dir if name == "train_phase1" else pipeline.model_dir
        last = [row for row in read_json_lines(folder / phase_dir) if "loss" in row][-1]
        assert last["step"] == NUM_STEPS
        assert pipeline.metrics[name]["loss"] == last["loss"]
        assert pipeline.metrics[name]["images_per_second"] > 0
    threshold = json.loads((pipeline.model_dir / "config.json").read_text())["threshold"]
    assert pipeline.metrics["train_phase2"]["threshold"] == threshold["value"]


def test_a_failure_after_training_costs_neither_the_earlier_output_nor_the_training(
    pipeline: Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out_dir, prepared_dir = tmp_path / "model", shutil.copytree(pipeline.prepared_dir, tmp_path / "prepared")
    with atomic_folder(out_dir, marker="reference.png") as folder:
        (folder / "reference.png").write_text("earlier")
    with (prepared_dir / "calibration.npy").open("r+b") as stream:
        stream.truncate(200)  # as a copy that broke off would leave it
    others = (pipeline.bank_dir, pipeline.phase1_dir, out_dir, pipeline.params, tmp_path / "work")
    with pytest.raises(ValueError, match=r"prepared/calibration\.npy.*run `ndpnet prepare` again"):
        steps.train_phase2(prepared_dir, *others)
    assert contents(out_dir)["reference.png"] == b"earlier"
    assert names_in(tmp_path) == ["model", "prepared", "work"]
    with caplog.at_level(logging.INFO):
        steps.train_phase2(pipeline.prepared_dir, *others)
    assert f"phase 2: resumed after step {NUM_STEPS} of {NUM_STEPS}" in caplog.messages
    assert contents(out_dir) == contents(pipeline.model_dir)
    assert names_in(tmp_path / "work") == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=128", r"made with data\.image_size 64, not 128 .*pass -P 'data\.image_size=64'"),
        ('data.group_pattern="_(x)"', r"""made with data\.group_pattern .*'data\.group_pattern="_\(p\\\\d\+\)_"'"""),
        ("synthesis.num_masks=32", r"bank was made with synthesis\.num_masks 64, not 32 \(run `ndpnet synthesize`"),
    ],
)
def test_inputs_made_with_other_parameters_are_refused(
    pipeline: Pipeline, tmp_path: Path, override: str, message: str
) -> None:
    params = load_params(pipeline.params_path, overrides=[override])
    with pytest.raises(ValueError, match=message):
        steps.train_phase1(pipeline.prepared_dir, pipeline.bank_dir, tmp_path / "out", params, tmp_path / "work")
    assert names_in(tmp_path) == []


def test_an_output_in_the_way_is_refused_before_training(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mother.png").write_bytes(b"dear")
    for verb, inputs in (("train_phase1", 2), ("train_phase2", 3)):
        paths = (pipeline.prepared_dir, pipeline.bank_dir, pipeline.phase1_dir)[:inputs]
        with pytest.raises(ValueError, match="will not replace folder"):
            getattr(steps, verb)(*paths, tmp_path / "pictures", pipeline.params, tmp_path / "work")
    assert contents(tmp_path) == {"pictures/mother.png": b"dear"}


def test_an_output_that_another_process_writes_is_refused_before_training(pipeline: Pipeline, tmp_path: Path) -> None:
    out, work_dir = tmp_path / "out", tmp_path / "work"
    with atomic_folder(out, marker="phase1.json") as folder:
        (folder / "phase1.json").write_text("of the first")
        with pytest.raises(ValueError, match=rf"^another process writes {out} \(wait for it, or"):
            steps.train_phase1(pipeline.prepared_dir, pipeline.bank_dir, out, pipeline.params, work_dir)
        assert list(work_dir.rglob("history.jsonl")) == []
    assert contents(out)["phase1.json"] == b"of the first"


def test_phase1_of_another_network_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    wider = load_params(pipeline.params_path, overrides=["model.base_width=8"])
    inputs = (pipeline.prepared_dir, pipeline.bank_dir, pipeline.phase1_dir)
    with pytest.raises(ValueError, match=r"other model parameters \(run `ndpnet train-phase1` again\)$"):
        steps.train_phase2(*inputs, tmp_path / "model", wider, tmp_path / "work")
    assert not (tmp_path / "model").exists()


def test_evaluate_writes_what_people_read(pipeline: Pipeline, tmp_path: Path) -> None:
    metrics = steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params)
    written = contents(tmp_path / "evaluation")
    tables = ".ndpnet.json metrics.json headline.json timing.json table.txt predictions.csv report.html"
    tables += " roc.csv pro.csv loss_phase1.csv loss_phase2.csv"
    assert {name for name in written if not name.startswith("overlays/")} == set(tables.split())
    assert sum(name.startswith("overlays/0") for name in written) == 6  # evaluation.num_cases
    highest = read_package(pipeline.model_dir).threshold["highest"]
    shown = [f"overlays/calibration_{rank}_{Path(each['path']).stem}.png" for rank, each in enumerate(highest)]
    assert sorted(name for name in written if name.startswith("overlays/calibration_")) == shown
    assert all(each["path"].encode() in written["report.html"] for each in highest)
    assert json.loads(written["metrics.json"]) == metrics
    assert (metrics["num_good"], metrics["num_defective"], metrics["has_masks"]) == (6, 6, True)
    assert sum(metrics["confusion"].values()) == 12
    assert escape(report_identity()["machine"]).encode() in written["report.html"]
    again = steps.evaluate(pipeline.prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params)
    assert again == metrics
    assert names_in(tmp_path) == ["evaluation"]


@pytest.mark.parametrize("of", ["sha256", "pixels_sha256"])  # the same file, or the same pixels in another one
def test_evaluate_refuses_a_test_image_that_the_model_has_seen(pipeline: Pipeline, tmp_path: Path, of: str) -> None:
    prepared_dir = shutil.copytree(pipeline.prepared_dir, tmp_path / "prepared")
    manifest = json.loads((prepared_dir / "manifest.json").read_text())
    seen = next(record for record in manifest["files"] if record["split"] == "calibration")
    moved = next(record for record in manifest["files"] if record["split"] == "test")
    moved[of] = seen[of]
    (prepared_dir / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"{moved['path']} is a test image, .* seen it as {seen['path']}"):
        steps.evaluate(prepared_dir, pipeline.model_dir, tmp_path / "evaluation", pipeline.params)
    assert names_in(tmp_path) == ["prepared"]


@pytest.mark.slow
def test_without_calibration_images_there_is_a_package_without_threshold(pipeline: Pipeline, tmp_path: Path) -> None:
    as_in_the_paper = ["data.calibration_fraction=0", "data.validation_fraction=0"]
    params = load_params(pipeline.params_path, overrides=[*as_in_the_paper, "train.num_validations=2"])
    prepared_dir, work_dir = tmp_path / "prepared", tmp_path / "work"
    assert steps.prepare(pipeline.data_dir, CATEGORY, prepared_dir, params, allow_unpinned=True)["num_train"] == 20
    steps.train_phase1(prepared_dir, pipeline.bank_dir, tmp_path / "phase1", params, work_dir)
    metrics = steps.train_phase2(
        prepared_dir, pipeline.bank_dir, tmp_path / "phase1", tmp_path / "model", params, work_dir
    )
    assert "threshold" not in metrics
    assert json.loads((tmp_path / "model" / "config.json").read_text())["threshold"] is None
    judged = steps.evaluate(prepared_dir, tmp_path / "model", tmp_path / "evaluation", params)
    assert judged["image_auroc"]["value"] > 0
    assert judged["threshold"] is judged["f1"] is judged["recall"] is judged["confusion"] is None
    assert any("No threshold" in note for note in judged["notes"])
    rows = (tmp_path / "evaluation" / "predictions.csv").read_text().splitlines()[1:]
    assert {tuple(row.split(",")[4:]) for row in rows} == {("", "", "good", ""), ("", "", "defective", "")}
    assert np.isfinite([float(row.split(",")[3]) for row in rows]).all()


def test_what_only_phase_two_reads_leaves_phase_one_as_it_was(pipeline: Pipeline, tmp_path: Path) -> None:
    others = ["model.softmax_scale=50", "model.patch_sizes=[]", "model.reference=first", "model.num_references=2"]
    others += ["model.ffm_channels=8", "model.ffm_kernel=3", "losses.focal_alpha=0.3", "train.phase2.epochs=1"]
    others += ["evaluation.num_cases=1"]
    others += ["losses.segmentation_weight=2", "losses.feature_repair_weight=3", "losses.focal_gamma=0"]
    others += ["losses.feature_repair_relative=true", "model.ffm_norm=true", "model.segmentation_input=product"]
    params = load_params(pipeline.params_path, overrides=others)
    steps.train_phase1(pipeline.prepared_dir, pipeline.bank_dir, tmp_path / "phase1", params, tmp_path / "work")
    assert contents(tmp_path / "phase1") == contents(pipeline.phase1_dir)
