"""Behind a frozen ImageNet encoder: trained, killed, judged, calibrated, exported, on long pictures and on scans."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_pipeline import num_lines
from processes import kill_when, run_cli, start_cli
from processor import EXPORTS, HAS_BF16
from safetensors.torch import load_file
from samples import CATEGORY, Pipeline, run_steps, write_category
from scans import CATEGORY as SLAB
from scans import TILE_DATA, write_scans
from skimage.data import brick

from ndpnet import steps
from ndpnet.config import load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.files import read_json_lines
from ndpnet.inference import Inspector
from ndpnet.inference.engines.export import export
from ndpnet.inference.engines.rounding import CONVOLUTIONS, exact_operations
from ndpnet.inference.engines.runtimes import OPENVINO_GRAPH, load_module, openvino_settings
from ndpnet.inference.package import WEIGHTS, read_package
from ndpnet.lineage import identity_params

pytestmark = pytest.mark.slow

MODEL = {"encoder": "tf_efficientnet_lite0", "anomaly_map": "fused", "bank_size": 1024, "head_channels": 8}
PLAIN = {"plain_share": 1.0, "plain_contrast": 0.6, "beta_max": 0.0, "edge_softness": 0.0, "surface_jitter": 0.05}


def run_frozen(folder: Path, data_dir: Path, category: str, data: dict[str, Any], epochs: tuple[int, int]) -> Pipeline:
    """Every step up to a package. epochs: of the two phases."""
    first, second = ({"epochs": number, "min_steps": 0} for number in epochs)
    train = {"phase1": first, "phase2": second | {"learning_rate": 0.005}}
    synthesis = PLAIN | {"patch_size": data["image_size"]}
    return run_steps(folder, data_dir, category, model=MODEL, train=train, synthesis=synthesis, data=data)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_category(folder / CATEGORY, brick(), stretch=1.5)
    return folder


@pytest.fixture(scope="module")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return run_frozen(tmp_path_factory.mktemp("pretrained"), data_dir, CATEGORY, {"image_size": 128}, epochs=(4, 30))


@pytest.fixture(scope="module")
def exported(run: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    for engine, precision in EXPORTS:
        model = out if out.exists() else run.model_dir
        export(model, out, prepared=run.prepared_dir, bank=run.bank_dir, engine=engine, precision=precision)
    return out


def test_defects_are_found_and_a_raw_file_scores_as_in_the_evaluation(
    run: Pipeline, data_dir: Path, tmp_path: Path
) -> None:
    summary = steps.evaluate(run.prepared_dir, run.model_dir, tmp_path / "evaluation", run.params)
    assert summary["image_auroc"]["value"] > 0.8
    assert summary["pixel_auroc"]["value"] > 0.8
    rows = (tmp_path / "evaluation" / "predictions.csv").read_text().splitlines()[1:]
    inspector = Inspector.load(run.model_dir)
    for row in rows:
        path, _, _, score, *_ = row.split(",")
        assert repr(inspector.inspect(data_dir / CATEGORY / path).score) == score


def test_the_package_has_the_encoder_and_the_bank_and_needs_no_other_file(run: Pipeline) -> None:
    state = load_file(run.model_dir / WEIGHTS)
    assert state["banks.0.patches"].shape == (1024, 24)
    assert any(name.startswith("encoder.network.") for name in state)
    unfitted = [name for name in state if name.endswith("_scale") and state[name].tolist() == [0, 1]]
    assert not unfitted
    package = read_package(run.model_dir)
    assert package.config["params"]["model"]["encoder_weights"].startswith("sha256:")
    assert package.input_size == PreparedData.load(run.prepared_dir).input_size == (128, 192)
    assert package.load_network(torch.device("cpu")).good_maximum.item() >= 1
    assert sum(path.stat().st_size for path in run.model_dir.iterdir()) < 40e6


def test_a_package_is_opened_without_what_only_training_needs(run: Pipeline) -> None:
    code = "import sys; from ndpnet.inference import Inspector; Inspector.load(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, run.model_dir]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"timm", "torchvision", "torch._dynamo"} & set(loaded)


def test_the_encoder_is_as_imagenet_left_it_and_phase_1_trained_the_decoder(run: Pipeline) -> None:
    first, second = load_file(run.phase1_dir / "weights.safetensors"), load_file(run.model_dir / WEIGHTS)
    kept = [
        name
        for name in first
        if name.startswith(("encoder.", "banks.", "decoder.", "colours.", "colour_bank.", "shade_bank."))
    ]
    assert len(kept) == len(first)
    assert all(torch.equal(first[name], second[name]) for name in kept)
    watched = {name for row in read_json_lines(run.phase1_dir / "history.jsonl") for name in row if "/" in name}
    assert watched == {"validation/reconstruction"}  # what the encoder perceives is no result of the training


def test_one_picture_with_none_held_out_is_refused(run: Pipeline, data_dir: Path, tmp_path: Path) -> None:
    good = Path(CATEGORY, "train/good")
    (tmp_path / good).mkdir(parents=True)
    shutil.copy(data_dir / good / "wall_p00_0.png", tmp_path / good)
    steps.prepare(tmp_path, CATEGORY, tmp_path / "prepared", run.params, allow_unpinned=True)
    with pytest.raises(ValueError, match="none held out"):
        steps.train_phase1(tmp_path / "prepared", run.bank_dir, tmp_path / "out", run.params, tmp_path / "work")


def test_weights_count_by_their_content(run: Pipeline, tmp_path: Path) -> None:
    from ndpnet.pretrained_weights import weights_path

    copy = tmp_path / "copy.pth"
    copy.write_bytes(weights_path(run.params.model.encoder_weights).read_bytes())
    params = load_params(run.params_path, overrides=[f"model.encoder_weights={copy}"])
    assert identity_params(params) == identity_params(run.params)


@pytest.mark.parametrize("phase", ["phase1", "phase2"])
def test_a_killed_training_ends_bit_for_bit(run: Pipeline, tmp_path: Path, phase: str) -> None:
    work_dir, out = tmp_path / "work", tmp_path / "out"
    inputs = [*run.inputs, *(["--phase1", run.phase1_dir] if phase == "phase2" else [])]
    command = [f"train-{phase}", *inputs, "--out", out, "--work-dir", work_dir, "--params", run.params_path]
    assert kill_when(start_cli(command, tmp_path / "log"), lambda: num_lines(work_dir, phase) >= 2)
    run_cli(command, tmp_path / "again")
    expected = run.phase1_dir if phase == "phase1" else run.model_dir
    assert (out / "weights.safetensors").read_bytes() == (expected / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(("engine", "precision"), EXPORTS)
def test_engines_say_what_torch_says(run: Pipeline, exported: Path, engine: str, precision: str) -> None:
    expected, found = Inspector.load(exported), Inspector.load(exported, engine=engine, precision=precision)
    parity = json.loads((exported / "engines" / f"{engine}-{precision}" / "parity.json").read_text())
    assert parity["validation"]["image_auroc"]["torch"] > 0.6
    atol = {"fp32": 1e-4, "bf16": 0.05}[precision]
    for image in PreparedData.load(run.prepared_dir).images("test"):
        differences = np.abs(expected.predict(image).anomaly_map - found.predict(image).anomaly_map)
        assert (differences < atol).mean() > 0.9  # elsewhere another patch is as near


def test_half_precision_spares_the_first_convolutions_and_small_products(exported: Path) -> None:
    openvino, engines = load_module("openvino"), exported / "engines"
    model = openvino.Core().read_model(engines / "openvino-fp32" / OPENVINO_GRAPH)
    names = exact_operations(model)
    nodes = [node for node in model.get_ordered_ops() if node.get_friendly_name() in names]
    convolutions = [node for node in nodes if node.get_type_name() in CONVOLUTIONS]
    assert [node.get_output_partial_shape(0)[1].get_length() for node in convolutions] == [32, 32, 16]  # to stride 2
    products = [node for node in nodes if node.get_type_name() == "MatMul"]
    # colours and shades, each with two numbers that make a distance of a product
    assert {node.get_input_partial_shape(0)[-1].get_length() for node in products} == {2 + 2, 3 + 2}
    if HAS_BF16:
        graph = engines / "openvino-bf16" / OPENVINO_GRAPH
        compiled = openvino.Core().compile_model(graph, "CPU", openvino_settings("bf16", 1))
        computed = {"f32": 0, "bf16": 0}
        for notes in (node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()):
            kind, precision, of = (
                notes[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")
            )
            if kind in ("Convolution", "FullyConnected"):
                is_spared = not names.isdisjoint(of.split(","))
                assert precision == ("f32" if is_spared else "bf16"), of
                computed[precision] += 1
        assert computed["f32"] == len(convolutions) + len(products)
        assert computed["bf16"] > 50


def test_scans_are_judged_in_tiles(tmp_path: Path) -> None:
    write_scans(tmp_path / "data" / SLAB, brick())
    tiles = run_frozen(tmp_path, tmp_path / "data", SLAB, TILE_DATA, epochs=(1, 8))
    summary = steps.evaluate(tiles.prepared_dir, tiles.model_dir, tmp_path / "evaluation", tiles.params)
    assert summary["pixel_auroc"]["value"] > 0.8
    scan = PreparedData.load(tiles.prepared_dir).images("test")[0]
    assert Inspector.load(tiles.model_dir).predict(scan).anomaly_map.shape == scan.shape[:2]
