"""Models whose map is a difference: trained, calibrated, judged, inspected and exported as any other."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from processor import EXPORTS
from samples import Pipeline, write_params

from ndpnet import steps
from ndpnet.config import Params, load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.inference import Inspector
from ndpnet.inference.engines.export import export
from ndpnet.inference.engines.quantise import quantise
from ndpnet.inference.engines.runtimes import load_module
from ndpnet.inference.package import WEIGHTS

pytestmark = pytest.mark.slow

OPTIONS = {"plain_share": 1.0, "plain_contrast": 0.6, "beta_max": 0.0, "edge_softness": 0.0, "surface_jitter": 0.05}


@dataclass(frozen=True)
class Run:
    """A package and what trained it."""

    params: Params
    model_dir: Path


def train(pipeline: Pipeline, folder: Path, anomaly_map: str) -> Run:
    """Phase 2 behind the pipeline's phase 1, long enough for scores to lie apart."""
    changes = {"model": {"anomaly_map": anomaly_map, "line_length": 9}}
    changes |= {"synthesis": OPTIONS, "train": {"phase2": {"epochs": 60, "learning_rate": 0.01}}}
    params = load_params(write_params(folder / "params.yaml", **changes))
    inputs = (pipeline.prepared_dir, pipeline.bank_dir, pipeline.phase1_dir)
    steps.train_phase2(*inputs, folder / "model", params, folder / "work")
    return Run(params, folder / "model")


@pytest.fixture(scope="module")
def line_run(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(pipeline, tmp_path_factory.mktemp("lines"), "line_gap")


@pytest.fixture(scope="module")
def line_export(line_run: Run, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with every engine."""
    out = tmp_path_factory.mktemp("exported") / "model"
    for engine, precision in EXPORTS:
        model = out if out.exists() else line_run.model_dir
        export(model, out, prepared=pipeline.prepared_dir, bank=pipeline.bank_dir, engine=engine, precision=precision)
    return out


def test_training_does_not_depend_on_the_map(line_run: Run, trained_dir: Path) -> None:
    assert (line_run.model_dir / WEIGHTS).read_bytes() == (trained_dir / WEIGHTS).read_bytes()


def test_threshold_evaluation_and_inspection_are_of_this_map(
    line_run: Run, trained_dir: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    prepared = PreparedData.load(pipeline.prepared_dir)
    inspector, other = Inspector.load(line_run.model_dir), Inspector.load(trained_dir)
    scores = [inspector.predict(image).score for image in prepared.images("calibration")]
    assert inspector.threshold == max(scores)  # so few images guarantee no less
    assert inspector.threshold != other.threshold
    summary = steps.evaluate(pipeline.prepared_dir, line_run.model_dir, tmp_path / "evaluation", line_run.params)
    assert summary["image_auroc"]["value"] > 0.6
    found = 0
    for record, image in zip(prepared.records("test"), prepared.images("test"), strict=True):
        prediction = inspector.predict(image, name=record.path)
        verdict = inspector.judge(prediction, size=(record.height, record.width))
        assert verdict.is_defective == (verdict.score > inspector.threshold) == bool(verdict.regions)
        found += verdict.is_defective
    assert found > 0
    assert (tmp_path / "evaluation" / "report.html").stat().st_size > 100_000


@pytest.mark.parametrize(("engine", "precision"), EXPORTS)
def test_engines_decide_as_torch_does(line_export: Path, pipeline: Pipeline, engine: str, precision: str) -> None:
    """On test pictures, of which the export knows nothing."""
    expected, found = Inspector.load(line_export), Inspector.load(line_export, engine=engine, precision=precision)
    parity = json.loads((line_export / "engines" / f"{engine}-{precision}" / "parity.json").read_text())
    assert parity["validation"]["image_auroc"]["torch"] > 0.6
    images = PreparedData.load(pipeline.prepared_dir).images("test")
    pairs = [(expected.predict(image), found.predict(image)) for image in images]
    atol = {"fp32": 1e-5, "bf16": 0.02}[precision]
    for wanted, got in pairs:
        np.testing.assert_allclose(got.anomaly_map, wanted.anomaly_map, atol=atol)
    if precision == "fp32":
        assert [e.score > expected.threshold for e, _ in pairs] == [f.score > found.threshold for _, f in pairs]


def test_int8_leaves_the_lines_alone(line_export: Path, pipeline: Pipeline) -> None:
    """And quantises the network: it is no fp32 engine under another name."""
    model = load_module("openvino").Core().read_model(line_export / "engines/openvino-fp32/graph.xml")
    images = PreparedData.load(pipeline.prepared_dir).images("train")
    quantised = quantise(model, images, np.array(images), lambda *_: (0.0, []), max_loss=0.0)
    convolutions = [node for node in quantised.get_ops() if node.get_type_name() == "Convolution"]
    sources = {node: node.input(0).get_source_output().get_node().get_type_name() for node in convolutions}
    along_lines = [node for node in convolutions if node.input_value(1).get_shape()[1] == 1]
    assert len(along_lines) == 1
    assert sources.pop(along_lines[0]) != "FakeQuantize"
    assert list(sources.values()).count("FakeQuantize") > len(sources) / 2  # or before a pooling or concatenation
