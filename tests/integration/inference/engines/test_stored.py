"""Engines in a package: found, checked, refitted, carried along."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processor import EXPORTED_NAMES, EXPORTS, HAS_BF16
from samples import Pipeline
from skimage.data import brick

from ndpnet import steps
from ndpnet.files import sha256_of
from ndpnet.inference import Inspector
from ndpnet.inference.calibration import calibrate
from ndpnet.inference.engines.parity import bounds_of
from ndpnet.inference.engines.stored import largest_difference
from ndpnet.inference.identity import sealed
from ndpnet.inference.package import read_package
from ndpnet.inference.speed import format_table, measure


def load(folder: Path, **options: str) -> Inspector:
    return Inspector.load(folder, **{"engine": "onnx", **options})


def test_the_finest_precision_is_taken_if_none_is_named(exported_dir: Path) -> None:
    assert load(exported_dir, engine="openvino").engine_name == "openvino-fp32"
    assert Inspector.load(exported_dir).engine_name == "torch-fp32"
    for engine, precision in EXPORTS:
        assert load(exported_dir, engine=engine, precision=precision).engine_name == f"{engine}-{precision}"


def test_an_engine_that_is_not_there_is_one_line(exported_dir: Path, pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match=r"^no engine openvino in .*model \(it has none; make it with `ndpnet exp"):
        load(pipeline.model_dir, engine="openvino")
    with pytest.raises(
        ValueError, match=rf"^no engine openvino-int8 in .* \(it has {', '.join(EXPORTED_NAMES)}; make it"
    ):
        load(exported_dir, engine="openvino", precision="int8")
    with pytest.raises(ValueError, match=r"^no engine 'tensorrt' \(one of torch, onnx, openvino\)$"):
        load(exported_dir, engine="tensorrt")
    with pytest.raises(ValueError, match=r"^the engine onnx runs on the CPU, not on cuda"):
        load(exported_dir, device="cuda")


def test_the_largest_difference_is_in_scores_or_in_aurocs(copy_dir: Path, pipeline: Pipeline) -> None:
    engines = copy_dir / "engines"

    def write(name: str, score: float, auroc: float) -> None:
        path = engines / name / "parity.json"
        parity = json.loads(path.read_text())
        parity["validation"]["largest_score_difference"] = score
        parity["validation"]["pixel_auroc"]["difference"] = -auroc
        parity["bounds"] = bounds_of(name.split("-")[1], has_bank=False)
        path.write_text(json.dumps(parity))
        record_path = path.with_name("engine.json")
        record = json.loads(record_path.read_text())
        record |= {"precision": name.split("-")[1], "files": record["files"] | {"parity.json": sha256_of(path)}}
        record_path.write_text(json.dumps(sealed(record)))

    assert largest_difference(read_package(pipeline.model_dir)) is None
    write("onnx-fp32", 3e-3, 0.5)
    assert largest_difference(read_package(copy_dir)) == 3e-3
    shutil.copytree(engines / "openvino-fp32", engines / "openvino-int8")
    write("openvino-int8", 0.5, 4e-3)
    assert largest_difference(read_package(copy_dir)) == 4e-3


@pytest.mark.parametrize("name", ["graph.onnx", "parity.json"])
def test_a_damaged_file_is_one_line(copy_dir: Path, name: str) -> None:
    path = copy_dir / "engines/onnx-fp32" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"^\S+{name} is damaged: not the hash in engine\.json \(export"):
        load(copy_dir)
    path.unlink()
    with pytest.raises(ValueError, match=rf"^\S+{name} is missing \(export"):
        load(copy_dir)


def test_a_damaged_record_is_one_line(copy_dir: Path) -> None:
    path = copy_dir / "engines/onnx-fp32/engine.json"
    record = json.loads(path.read_text())
    refused = {
        "": r"engine\.json is damaged: ",
        json.dumps(record | {"format_version": 7}): r"has format 7, this ndpnet reads 2 \(export the model again\)$",
        json.dumps(record | {"threshold": None}): r"engine\.json was changed after it was written",
        json.dumps(sealed(record | {"made_from": "0" * 64})): r"was exported from another model \(export this one\)$",
    }
    for text, message in refused.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load(copy_dir)


def test_calibrating_refits_the_engines_too(exported_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for number in range(6):
        Image.fromarray(brick()[number * 60 : number * 60 + 90, 200:300]).save(tmp_path / f"good/wall_p{number}_0.png")
    calibrate(exported_dir, tmp_path / "good", tmp_path / "new")
    paths = sorted((tmp_path / "good").iterdir())
    for engine, precision in (("torch", "fp32"), *EXPORTS):
        inspector = Inspector.load(tmp_path / "new", engine=engine, precision=precision)
        assert inspector.threshold == max(inspector.inspect(path).score for path in paths)
        assert inspector.threshold_record["num_images"] == 6


def test_evaluation_goes_by_the_engine(exported_dir: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    arguments = (pipeline.prepared_dir, exported_dir)
    summaries = {
        engine: steps.evaluate(*arguments, tmp_path / engine, pipeline.params, engine=engine)
        for engine in ("torch", "onnx")
    }
    for name in ("image_auroc", "pixel_auroc"):
        assert summaries["onnx"][name]["value"] == pytest.approx(summaries["torch"][name]["value"], abs=1e-3)
    inspector = load(exported_dir)
    (row,) = [line for line in (tmp_path / "onnx/predictions.csv").read_text().splitlines() if "hole/wall_p80" in line]
    verdict = inspector.inspect(pipeline.data_dir / "wall/test/hole/wall_p80_1.png")
    assert row.split(",")[3:5] == [repr(verdict.score), repr(inspector.threshold)]
    assert "onnx-fp32" in (tmp_path / "onnx/report.html").read_text()


def test_openvino_reports_nothing_to_its_maker(exported_dir: Path, tmp_path: Path) -> None:
    """Imported plainly it writes an identity under the home folder and sends an event."""
    code = (
        "import sys; from ndpnet.inference import Inspector; import numpy as np;"
        f"i = Inspector.load({str(exported_dir)!r}, engine='openvino');"
        "print(i.predict(np.zeros((64, 64, 3), np.uint8)).score, sys.modules.get('openvino_telemetry'))"
    )
    environment = {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout
    score, telemetry = printed.split()
    black = load(exported_dir, engine="openvino").predict(np.zeros((64, 64, 3), np.uint8))
    assert (float(score), telemetry) == (black.score, "None")
    assert not list(tmp_path.iterdir())


def test_bench_times_every_engine(copy_dir: Path) -> None:
    for name in set(EXPORTED_NAMES) - {"onnx-fp32"}:
        shutil.rmtree(copy_dir / "engines" / name)  # each is timed in a process of its own
    timings = measure(copy_dir, seconds=0.1, num_threads=1)
    assert [each["engine"] for each in timings] == ["torch-fp32", "onnx-fp32"]
    for each in timings:
        assert each["images"] >= 5
        assert each["images"] / each["images/s"] >= 0.1
        assert 0 < each["p50 ms"] <= each["p95 ms"] <= each["p99 ms"] <= 1000 * each["images"] / each["images/s"]
        assert each["peak MiB"] > 100
    _, _, *rows, _ = format_table(timings, num_threads=1).splitlines()
    assert [row.split()[0] for row in rows] == [each["engine"] for each in timings]
    assert rows[0].split()[5] == "1.00"  # of torch


@pytest.mark.skipif(HAS_BF16, reason="this processor has bf16")
def test_an_engine_checked_in_bf16_does_not_run_in_another_precision(
    copy_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO would take fp32 and say nothing, with a threshold that was fitted in bf16."""
    path = copy_dir / "engines/openvino-fp32/engine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"float_type": "bf16"}))
    with pytest.raises(ValueError, match=r"openvino-fp32 was checked in bf16, which this processor does not have \("):
        load(copy_dir, engine="openvino")
    timings = measure(copy_dir, seconds=0.1, num_threads=1)
    assert [each.engine for each in timings] == ["torch-fp32", "onnx-fp32"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("left out: ")
    assert "openvino-fp32 was checked in bf16" in warning
