"""The whole pipeline on scans: tiles to train on, whole scans to judge, with and without a region of interest."""

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import Pipeline, run_steps
from scans import CATEGORY, SIDE, SIZES, TILE_DATA, seam_ratio, write_scans
from skimage.data import brick

from ndpnet import steps
from ndpnet.data.prepared import PreparedData
from ndpnet.data.tiling import Tiling
from ndpnet.evaluation.judging import check_inputs
from ndpnet.inference import Inspector
from ndpnet.inference.engines import parity
from ndpnet.inference.engines.export import export
from ndpnet.inference.package import read_package, write_config, write_references
from ndpnet.inference.scanning import predict_scan
from ndpnet.promotion.evidence import gather

pytestmark = pytest.mark.slow

SEAM_LIMIT = 1.2


@dataclass(frozen=True)
class Run(Pipeline):
    """What the steps made of one category of scans, and its evaluation."""

    evaluation_dir: Path
    summary: dict[str, Any]

    def rows(self) -> list[dict[str, str]]:
        """predictions.csv."""
        with (self.evaluation_dir / "predictions.csv").open(newline="") as table:
            return list(csv.DictReader(table))


def run_and_evaluate(folder: Path, data: dict[str, Any]) -> Run:
    changes = {"synthesis": {"patch_size": 128}, "train": {"phase1": {"epochs": 1}, "phase2": {"epochs": 1.5}}}
    made = run_steps(folder, folder / "data", CATEGORY, data=data, **changes)
    summary = steps.evaluate(made.prepared_dir, made.model_dir, folder / "evaluation", made.params)
    return Run(**vars(made), evaluation_dir=folder / "evaluation", summary=summary)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Scans of mixed sizes, scaled a little."""
    folder = tmp_path_factory.mktemp("tiles")
    write_scans(folder / "data" / CATEGORY, brick())
    return run_and_evaluate(folder, {**TILE_DATA, "scale": 0.995})


@pytest.fixture(scope="module")
def roi_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Scans of one size, their left quarter ignored."""
    folder = tmp_path_factory.mktemp("region")
    write_scans(folder / "data" / CATEGORY, brick(), sizes=SIZES[:1], roi=True)
    return run_and_evaluate(folder, TILE_DATA)


@pytest.mark.parametrize("name", ["run", "roi_run"])
def test_a_raw_scan_scores_as_in_evaluation_and_calibration(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    inspector = Inspector.load(run.model_dir)
    rows = run.rows()
    assert len(rows) == (7 if name == "run" else 6)
    for row in rows:
        verdict = inspector.inspect(run.data_dir / CATEGORY / row["path"])
        assert repr(verdict.score) == row["score"]
        assert verdict.is_defective == (row["outcome"] in ("found", "false alarm"))
    assert len({row["score"] for row in rows}) == len(rows)
    calibration = PreparedData.load(run.prepared_dir).records("calibration")
    scores = [inspector.inspect(run.data_dir / CATEGORY / record.path).score for record in calibration]
    assert inspector.threshold == max(scores)
    assert (inspector.threshold_record["num_images"], inspector.threshold_record["num_units"]) == (3, 3)


METRICS = ("image_auroc", "pixel_auroc", "pro_auc", "recall")


def test_a_model_of_scans_can_follow_one_of_whole_pictures(run: Run, tmp_path: Path) -> None:
    whole = shutil.copytree(run.model_dir, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    config["params"]["data"]["mode"] = "resize"
    params = run.params.model_copy(update={"data": run.params.data.model_copy(update={"mode": "resize"})})
    steps.prepare(run.data_dir, CATEGORY, tmp_path / "prepared", params, allow_unpinned=True)
    prepared = PreparedData.load(tmp_path / "prepared")
    write_references(np.array(prepared.images("train")[:1]), whole / "reference.png")
    write_config(whole, config | {"input_size": prepared.input_size})
    scans, pictures = (run.model_dir, run.prepared_dir), (whole, tmp_path / "prepared")
    evidence = gather(scans, pictures, metrics=METRICS)
    measured = {name: each.challenger for name, each in evidence.metrics.items()}
    assert measured == {name: run.summary[name]["value"] for name in METRICS}
    assert evidence.metrics["pixel_auroc"].champion != evidence.metrics["pixel_auroc"].challenger
    assert all(each.spread.error >= 0 for each in evidence.metrics.values())
    with pytest.raises(ValueError, match=r"prepared with data.mode tile, the model takes resize"):
        gather(scans, (whole, run.prepared_dir), metrics=METRICS)


def test_metrics_are_those_of_the_maps_at_scan_resolution(run: Run) -> None:
    from ndpnet.metrics import exact

    data, inspector = PreparedData.load(run.prepared_dir), Inspector.load(run.model_dir)
    maps = [inspector.predict(scan).anomaly_map for scan in data.images("test")]
    pixel, pro = exact.pixel_metrics(maps, list(data.masks()))
    assert run.summary["pixel_auroc"]["value"] == pixel
    assert run.summary["pro_auc"]["value"] == pro
    assert len({each.shape for each in maps}) == len(SIZES)
    assert run.metrics["prepare"]["num_train_tiles"] == len(data.images("train"))
    assert (run.evaluation_dir / "report.html").stat().st_size > 10_000
    assert len(list((run.evaluation_dir / "overlays").glob("0*"))) == 6
    highest = read_package(run.model_dir).threshold["highest"]
    assert len(list((run.evaluation_dir / "overlays").glob("calibration_*"))) == len(highest) > 0


def test_a_model_of_scans_is_judged_by_scans_of_any_shape(run: Run) -> None:
    data, package = PreparedData.load(run.prepared_dir), read_package(run.model_dir)
    check_inputs(replace(data, settings=data.settings | {"aspect_ratio": 2 * package.aspect_ratio}), package)


def test_a_defect_outside_the_region_is_left_out(roi_run: Run) -> None:
    note = "1 defective images have their whole defect where nothing is inspected: left out."
    assert note in roi_run.summary["notes"]
    assert (roi_run.summary["num_good"], roi_run.summary["num_defective"]) == (3, 3)


def test_an_exported_engine_says_of_scans_what_torch_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "NUM_VALIDATION", 64)  # 256 are for bf16, whose ROCAUCs differ
    inputs = {"prepared": run.prepared_dir, "bank": run.bank_dir}
    measured = export(run.model_dir, tmp_path / "model", engine="openvino", precision="fp32", **inputs)
    assert measured["validation"]["largest_map_difference"] < 1e-5
    expected = Inspector.load(tmp_path / "model")
    found = Inspector.load(tmp_path / "model", engine="openvino")
    assert found.threshold == pytest.approx(expected.threshold, abs=1e-5)
    paths = sorted((run.data_dir / CATEGORY / "test").rglob("*.png"))
    assert len({Image.open(path).size for path in paths}) > 1  # of other sizes than the graph's
    for path in paths:
        wanted, got = expected.inspect(path), found.inspect(path)
        np.testing.assert_allclose(got.anomaly_map, wanted.anomaly_map, atol=1e-5)
        assert got.score == pytest.approx(wanted.score, abs=1e-5)


def hard_edged(tiling: Tiling) -> Tiling:
    """The same grid without blending: every pixel from the first tile that covers it."""

    class HardEdged(Tiling):
        def weights(self, length: int) -> np.ndarray:
            offsets = self.offsets(length)
            ends = [*offsets[1:], offsets[-1] + self.side]
            kept = [np.arange(offset, offset + self.side) < end for offset, end in zip(offsets, ends, strict=True)]
            return np.stack(kept).astype(np.float32)

    return HardEdged(tiling.side)


def seams(inspector: Inspector, scan: np.ndarray, tiling: Tiling) -> list[float]:
    """`seam_ratio` of columns and of rows, as far as there are tile borders."""
    anomaly_map = predict_scan(inspector.engine, scan, tiling)
    found = []
    for plane in (anomaly_map, anomaly_map.T):
        offsets = tiling.offsets(plane.shape[1])
        if len(offsets) > 1:
            found.append(seam_ratio(plane, offsets, tiling.side))
    return found


def test_no_seam_on_photographs(run: Run) -> None:
    from skimage import data

    inspector = Inspector.load(run.model_dir)
    tiling = replace(inspector.tiling, side=SIDE)  # the smallest tiles have the most seams
    blended, hard = [], []
    for name in ("brick", "grass", "gravel"):
        photograph = np.repeat(getattr(data, name)()[..., None], 3, axis=2)
        blended += seams(inspector, photograph, tiling)
        hard += seams(inspector, photograph, hard_edged(tiling))
    assert max(blended) <= SEAM_LIMIT
    assert max(hard) > max(1.25 * SEAM_LIMIT, 1.25 * max(blended))  # so the measure does see seams
