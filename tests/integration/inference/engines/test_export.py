"""Exported engines say what torch says, and are not written where they do not."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from networks import kaiming, normal
from processor import EXPORTED_NAMES, EXPORTS, HAS_BF16
from safetensors.torch import load_file, save_file
from samples import Pipeline

from ndpnet.data.prepared import PreparedData
from ndpnet.inference import Inspector
from ndpnet.inference.engines.export import export
from ndpnet.inference.engines.graph import write_onnx
from ndpnet.inference.engines.parity import bounds_of, excesses
from ndpnet.inference.engines.rounding import CONVOLUTIONS, exact_operations, save_graph
from ndpnet.inference.engines.runtimes import load_module, open_graph, openvino_settings
from ndpnet.inference.engines.stored import made_from
from ndpnet.inference.identity import hash_without_engines, package_hash, sealed
from ndpnet.inference.package import CONFIG, WEIGHTS, read_package, write_config
from ndpnet.metrics.exact import image_score
from ndpnet.metrics.threshold import fit_threshold, promised_rates
from ndpnet.model import NDPNet
from ndpnet.model.patch_bank import PatchBank
from ndpnet.model.pretrained import PretrainedNDPNet
from ndpnet.model.segmentation import filter_map
from ndpnet.synthesis.compose import to_unit

FP32 = [("onnx", "fp32"), ("openvino", "fp32")]


@pytest.mark.parametrize(("engine", "precision"), FP32)
def test_maps_scores_and_verdicts_are_those_of_torch(
    exported_dir: Path, pipeline: Pipeline, engine: str, precision: str
) -> None:
    """On test pictures, of which the export knows nothing, of other sizes than the network's."""
    expected, found = Inspector.load(exported_dir), Inspector.load(exported_dir, engine=engine, precision=precision)
    assert (found.engine_name, expected.engine_name) == (f"{engine}-{precision}", "torch-fp32")
    paths = sorted((pipeline.data_dir / "wall/test").rglob("*.png"))
    verdicts = [(expected.inspect(path), found.inspect(path)) for path in paths]
    assert len(verdicts) == 12
    for wanted, got in verdicts:
        np.testing.assert_allclose(got.anomaly_map, wanted.anomaly_map, atol=1e-5)
        assert got.score == pytest.approx(wanted.score, abs=1e-5)
        assert got.is_defective == wanted.is_defective
        assert np.abs(got.reconstruction.astype(int) - wanted.reconstruction).max() <= 1
    assert {got.is_defective for _, got in verdicts} == {True, False}


@pytest.mark.parametrize(("engine", "precision"), EXPORTS)
def test_each_engine_has_a_threshold_of_its_own_from_calibration(
    exported_dir: Path, pipeline: Pipeline, engine: str, precision: str
) -> None:
    prepared = PreparedData.load(pipeline.prepared_dir)
    inspector = Inspector.load(exported_dir, engine=engine, precision=precision)
    scores = np.array([inspector.predict(image).score for image in prepared.images("calibration")])
    groups = [record.group for record in prepared.records("calibration")]
    of_torch = read_package(exported_dir).threshold
    expected = fit_threshold(scores, groups, target_rate=0.01)
    highest = inspector.threshold_record["highest"]
    assert [each["score"] for each in highest] == sorted(scores, reverse=True)[:6]
    calibration = of_torch["calibration"] | {"scores": scores.tolist()}  # the same pictures in the same order
    own = {"highest": highest, "calibration": calibration, "promised_rates": promised_rates(scores, groups)}
    assert inspector.threshold_record == expected | own | {"data_hash": of_torch["data_hash"]}
    assert inspector.threshold == expected["value"]
    if precision == "bf16":
        assert inspector.threshold != of_torch["value"]
        assert inspector.threshold == pytest.approx(of_torch["value"], abs=0.02)


def test_parity_is_written_down(exported_dir: Path) -> None:
    for engine, precision in EXPORTS:
        parity = json.loads((exported_dir / f"engines/{engine}-{precision}/parity.json").read_text())
        assert (parity["training"]["num_images"], parity["validation"]["num_images"]) == (12, 256)
        assert (parity["validation"]["num_defective"], parity["validation"]["are_held_out"]) == (128, True)
        for images in (parity["training"], parity["validation"]):
            assert 0 < images["mean_map_difference"] < images["largest_map_difference"]
            assert images["num_differing_verdicts"] == len(images["differing_verdicts"])
            if precision == "fp32":
                assert images["largest_map_difference"] <= 1e-5
                assert images["num_differing_verdicts"] == 0
        image_auroc, pixel_auroc = parity["validation"]["image_auroc"], parity["validation"]["pixel_auroc"]
        assert image_auroc["torch"] > 0.9
        assert pixel_auroc["torch"] > 0.7
        assert max(abs(image_auroc["difference"]), abs(pixel_auroc["difference"])) <= 0.002
        assert parity["float_type"] == precision


@pytest.mark.skipif(HAS_BF16, reason="this processor has bf16")
def test_bf16_is_not_exported_where_openvino_would_compute_in_fp32(
    exported_dir: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    inputs = {"prepared": pipeline.prepared_dir, "bank": pipeline.bank_dir}
    with pytest.raises(ValueError, match=r"^this processor has no bf16 \(export on the kind that"):
        export(exported_dir, tmp_path / "out", engine="openvino", precision="bf16", **inputs)
    assert not (tmp_path / "out").exists()
    (shutil.copytree(exported_dir, tmp_path / "other") / "engines/onnx-fp32-old").mkdir()
    with pytest.raises(ValueError, match=r"engines/onnx-fp32-old is no engine of this ndpnet \(remove it\)$"):
        export(tmp_path / "other", tmp_path / "out", engine="openvino", precision="bf16", **inputs)


def test_the_model_itself_is_untouched_and_the_engines_count(trained_dir: Path, exported_dir: Path) -> None:
    assert hash_without_engines(exported_dir) == hash_without_engines(trained_dir) == package_hash(trained_dir)
    assert package_hash(exported_dir) != package_hash(trained_dir)
    assert sorted(path.name for path in (exported_dir / "engines").iterdir()) == EXPORTED_NAMES


def test_no_path_of_this_machine_is_in_the_files(exported_dir: Path) -> None:
    here = str(Path(torch.__file__).parents[1]).encode(), str(exported_dir.parent).encode(), b"/ndpnet/"
    files = [path for path in (exported_dir / "engines").rglob("*") if path.is_file()]
    assert len(files) == sum(3 if name.startswith("onnx") else 4 for name in EXPORTED_NAMES)
    assert not [path.name for path in files for text in here if text in path.read_bytes()]


def test_a_graph_for_tiles_ends_before_the_filters(tmp_path: Path) -> None:
    network = NDPNet(base_width=4, ffm_channels=4).eval()
    network.set_reference(torch.rand(1, 3, 64, 64))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        raw = network.mark(to_unit(torch.from_numpy(images)), has_filters=False)
    write_onnx(network, tmp_path / "graph.onnx", input_size=(64, 64), has_filters=False, score_pixels=1)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    assert [output.name for output in session.get_outputs()] == ["anomaly_map", "reconstruction"]
    (found,) = session.run(["anomaly_map"], {"images": images})
    np.testing.assert_allclose(found, raw[:, 0].numpy(), atol=1e-6)
    assert np.abs(found - filter_map(raw)[:, 0].numpy()).max() > 1e-4


def test_the_score_of_several_pixels_is_in_the_graph(tmp_path: Path) -> None:
    network = kaiming(NDPNet(base_width=4, ffm_channels=4).eval())
    network.set_reference(torch.rand(1, 3, 64, 64))
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network.predict(to_unit(torch.from_numpy(images)))[0][:, 0].numpy()
    write_onnx(network, tmp_path / "graph.onnx", input_size=(64, 64), has_filters=True, score_pixels=7)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx")
    maps, scores = session.run(["anomaly_map", "score"], {"images": images})
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    np.testing.assert_allclose(scores, [image_score(each, 7) for each in maps], rtol=1e-6)
    assert expected.std() > 0.005


def test_of_another_backbone_the_first_convolution_alone_is_not_rounded(tmp_path: Path) -> None:
    """Later ones that write as few channels stay: marks inside the network keep OpenVINO from opening it."""
    network = PretrainedNDPNet(encoder="mobilenetv3_small_050", bank_size=128, head_channels=8).eval()
    write_onnx(network, tmp_path / "graph.onnx", input_size=(64, 64), has_filters=True, score_pixels=1)
    model = load_module("openvino").Core().read_model(tmp_path / "graph.onnx")
    names = exact_operations(model)
    nodes = [node for node in model.get_ordered_ops() if node.get_friendly_name() in names]
    sizes = [node.get_output_partial_shape(0) for node in nodes if node.get_type_name() in CONVOLUTIONS]
    assert [[size[axis].get_length() for axis in (1, 2, 3)] for size in sizes] == [[16, 32, 32]]
    save_graph(model, tmp_path / "graph.xml", is_rounded=True)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    float_types = ("fp32", "bf16") if HAS_BF16 else ("fp32",)
    runs = [
        open_graph("openvino", tmp_path, float_type=each, input_size=(64, 64), num_threads=1) for each in float_types
    ]
    with torch.no_grad():
        expected = network.predict(to_unit(torch.from_numpy(image)))[0][:, 0].numpy()
    for run, atol in zip(runs, (1e-4, 0.1), strict=False):
        np.testing.assert_allclose(run(image, "anomaly_map"), expected, atol=atol)


@pytest.mark.parametrize(("float_type", "further"), [("fp32", 1e-6), ("bf16", 0.04)])
def test_a_graph_finds_near_patches_far_from_0(tmp_path: Path, float_type: str, further: float) -> None:
    """Without q.q / 2 in its products bf16 takes patches that are 6 % further than the nearest."""
    if float_type == "bf16" and not HAS_BF16:
        pytest.skip("this processor has no bf16")
    bank, feats = PatchBank(num_channels=40, num_patches=1024).eval(), 3 + 0.5 * normal(1, 40, 16, 16)
    bank.patches.copy_(3 + 0.5 * normal(1024, 40, seed=1))
    program = torch.onnx.export(bank, (feats,), dynamo=True, input_names=["feats"], verbose=False)
    program.save(tmp_path / "bank.onnx")
    graph = load_module("openvino").compile_model(tmp_path / "bank.onnx", "CPU", openvino_settings(float_type, 1))
    found = torch.from_numpy(graph({"feats": feats.numpy()})[0])
    distance, least = ((feats - patches).square().sum(dim=1) for patches in (found, bank(feats)))
    assert 1 <= (distance / least).mean() <= 1 + further


def test_an_engine_beyond_the_bounds_is_not_written(copy_dir: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    """A graph of slightly other weights than the package's, which the export takes for the package's own."""
    state = load_file(copy_dir / WEIGHTS)
    state["segmentation.heads.0.1.bias"] += 0.01
    save_file(state, copy_dir / WEIGHTS)
    write_config(copy_dir, json.loads((copy_dir / CONFIG).read_text()))
    record_path = copy_dir / "engines/onnx-fp32/engine.json"
    record = json.loads(record_path.read_text()) | {"made_from": made_from(read_package(copy_dir))}
    record_path.write_text(json.dumps(sealed(record)))
    inputs = {"prepared": pipeline.prepared_dir, "bank": pipeline.bank_dir}
    message = r"^the engine openvino-fp32 is not written: .*map difference 0\.0\d+ above 0\.0001; score difference 0\.0"
    with pytest.raises(ValueError, match=message) as caught:
        export(copy_dir, tmp_path / "out", engine="openvino", precision="fp32", **inputs)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("precision", "change", "beyond"),
    [
        ("bank", {"largest_map_difference": 0.1, "largest_score_difference": 0.009}, []),
        ("bank", {"mean_map_difference": 2e-4}, ["mean map difference 0.0002 above 0.0001"]),
        ("bank", {"largest_score_difference": 0.02}, ["score difference 0.02 above 0.01"]),
        ("bank", {"image_auroc": {"difference": -0.003}}, ["image auroc difference 0.003 above 0.002"]),
        ("fp32", {}, []),
        ("fp32", {"largest_map_difference": 2e-4}, ["map difference 0.0002 above 0.0001"]),
        ("fp32", {"largest_score_difference": 2e-4}, ["score difference 0.0002 above 0.0001"]),
        ("fp32", {"largest_score_difference": math.nan}, ["score difference nan above 0.0001"]),
        ("bf16", {"largest_map_difference": 0.5, "largest_score_difference": 0.5}, []),
        ("int8", {"image_auroc": {"difference": -0.003}}, ["image auroc difference 0.003 above 0.002"]),
        ("int8", {"pixel_auroc": {"difference": 0.003}}, ["pixel auroc difference 0.003 above 0.002"]),
        ("int8", {"pixel_auroc": {"difference": 0.002}}, []),
    ],
)
def test_bounds_of_parity(precision: str, change: dict, beyond: list[str]) -> None:
    images = {"largest_map_difference": 1e-4, "mean_map_difference": 1e-4, "largest_score_difference": 1e-4}
    aurocs = {"image_auroc": {"difference": 0.0}, "pixel_auroc": {"difference": 0.0}}
    bounds = bounds_of("fp32" if precision == "bank" else precision, has_bank=precision == "bank")
    assert excesses({"training": images, "validation": images | aurocs | change}, bounds) == beyond


def test_what_does_not_belong_to_the_model_is_refused_before_anything_is_computed(
    trained_dir: Path, pipeline: Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    inputs = {"prepared": pipeline.prepared_dir, "bank": pipeline.bank_dir}
    bank_dir = shutil.copytree(pipeline.bank_dir, tmp_path / "bank")
    (bank_dir / "bank.json").write_text((bank_dir / "bank.json").read_text() + " ")

    def with_another(split: str) -> Path:
        folder = shutil.copytree(pipeline.prepared_dir, tmp_path / split)
        manifest = json.loads((folder / "manifest.json").read_text())
        next(each for each in manifest["files"] if each["split"] == split)["sha256"] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    refused = {
        r"^no engine 'tensorrt' \(one of torch, onnx, openvino\)$": {"engine": "tensorrt"},
        r"^no precision 'bf16' with engine onnx \(one of fp32\)$": {"precision": "bf16"},
        r"^every model has the engine torch": {"engine": "torch"},
        r"bank is not the bank that .* was trained with": {"bank": bank_dir},
        r"train is not what .* was trained on": {"prepared": with_another("train")},
        r"calibrated on other images than those of .*calibration ": {"prepared": with_another("calibration")},
    }
    for message, change in refused.items():
        with pytest.raises(ValueError, match=message):
            export(trained_dir, tmp_path / "out", **{"engine": "onnx", "precision": "fp32", **inputs, **change})
    assert not (tmp_path / "out").exists()
    assert not any("tracing" in message for message in caplog.messages)
