"""`ndpnet benchmark` in processes: a whole run, a killed one that goes on, a category that fails."""

import functools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from processes import kill_when, run_cli, start_cli
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.benchmark.figures import choose_rows, draw_figure
from ndpnet.benchmark.run import parse_devices, parse_peer, parse_seeds
from ndpnet.benchmark.suites import SUITES
from ndpnet.benchmark.tasks import Task
from ndpnet.benchmark.variants import FULL, choose_variants
from ndpnet.config import load_params
from ndpnet.locks import locked

VARIANTS = ("without RBAM", "pixel gap for MSDSM")


def arguments(pipeline: Pipeline, out: Path, *options: str, data_dir: Path | None = None) -> list[object]:
    call = ["benchmark", "folder", "--data", data_dir or pipeline.data_dir, "--out", out]
    return [*call, "--params", pipeline.params_path, *options]


def finished(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("*/*.done.json")}


@pytest.mark.slow
def test_a_killed_suite_goes_on_and_computes_nothing_twice(pipeline: Pipeline, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ablations = [part for name in VARIANTS for part in ("--ablate", name)]
    call = arguments(pipeline, out, *ablations, "--figures")
    assert kill_when(start_cli(call, tmp_path / "log"), lambda: len(finished(out)) == 3)
    before = finished(out)
    done = run_cli(call, tmp_path / "log")
    assert done.exit_code == 0, done.stderr
    assert f"{9 - len(before)} of 9 tasks to run" in done.stderr
    after = finished(out)
    assert before.items() <= after.items()
    assert len(after) == 9
    rows = json.loads((out / "results.json").read_text())
    assert [row["cell"]["method"] for row in rows] == [FULL.name, *VARIANTS]
    values = [row["scores"]["all"]["pixel_auroc"] for row in rows]
    assert len(set(values)) == 3
    # the same training as the pipeline's own, and the same metrics
    weights = {path.read_bytes() for path in (out / "model").glob("*/weights.safetensors")}
    assert (pipeline.model_dir / "weights.safetensors").read_bytes() in weights
    assert (out / "figures" / f"{CATEGORY}.png").is_file()
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "Table VI" in page
    assert f"| {FULL.name} | {CATEGORY} |" in done.stdout


@pytest.mark.slow
def test_a_category_that_fails_leaves_the_others(pipeline: Pipeline, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "broken/train/good").mkdir(parents=True)
    (data / "broken/train/good/broken_p00_0.png").write_bytes(b"no picture")
    (data / CATEGORY).symlink_to(pipeline.data_dir / CATEGORY)
    done = run_cli(arguments(pipeline, tmp_path / "out", data_dir=data), tmp_path / "log")
    assert done.exit_code == 1
    (line,) = done.error_lines
    assert line.startswith("prepare broken: ")
    assert "broken_p00_0.png" in line
    rows = {row["cell"]["category"]: row["scores"] for row in json.loads((tmp_path / "out/results.json").read_text())}
    assert rows["broken"] is None
    assert rows[CATEGORY]["all"]["image_auroc"] is not None
    assert "FAILED: prepare broken" in (tmp_path / "out/report.md").read_text()


def test_every_ablation_is_a_choice_of_parameters_that_exist() -> None:
    for variant in choose_variants(("all",)):
        values = load_params(profile="line", overrides=variant.overrides).model_dump(mode="json")
        for override in variant.overrides:
            name, _, text = override.partition("=")
            section, *path = name.split(".")
            assert functools.reduce(dict.__getitem__, path, values[section]) == yaml.safe_load(text), override
    assert [each.name for each in choose_variants(())] == [FULL.name]
    assert choose_variants(("K = 2",))[1].overrides == ("model.patch_sizes=[2]",)
    assert choose_variants(("train.batch_size=4",))[1].overrides == ("train.batch_size=4",)
    with pytest.raises(ValueError, match=r"no ablation 'RBAM' \(one of paper, own, all, without L_def_per"):
        choose_variants(("RBAM",))


def test_seeds_and_peers_are_read() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("3,5") == (3, 5)
    assert parse_seeds("7,") == (7,)
    for text in ("0", "", "a", "1,1", "-1,2"):
        with pytest.raises(ValueError, match="names no seeds"):
            parse_seeds(text)
    assert parse_peer("draem:steps=5,width=16,sources=/x") == {
        "model": "draem", "steps": 5, "width": 16, "sources": "/x",
    }  # fmt: skip
    with pytest.raises(ValueError, match="no setting 'speed=3'"):
        parse_peer("draem:speed=3")


def test_suites_name_their_categories(tmp_path: Path) -> None:
    for name in ("carpet", "grid", "leather", "tile", "wood"):
        (tmp_path / name / "train/good").mkdir(parents=True)
    suite = SUITES["mvtec-textures"]
    assert suite.find_categories(tmp_path, ()) == list(suite.categories)
    assert suite.find_categories(tmp_path, ("wood",)) == ["wood"]
    with pytest.raises(ValueError, match="has no category 'bottle'"):
        suite.find_categories(tmp_path, ("bottle",))
    (tmp_path / "wood/train/good").rmdir()
    with pytest.raises(ValueError, match=r"no .*/wood/train/good"):
        suite.find_categories(tmp_path, ())
    with pytest.raises(ValueError, match=r"no .*/any category/train/good"):
        SUITES["folder"].find_categories(tmp_path / "nothing", ())
    odd, even = (SUITES["kolektor"].subsets[f"{name} items"] for name in ("odd", "even"))
    assert odd("kos07")
    assert not even("kos07")
    assert even("kos12")


def test_examples_are_chosen_by_place_alone() -> None:
    types = ["crack"] * 10 + ["good"] * 5 + ["hole"] * 3
    assert choose_rows(types, 8) == [0, 2, 5, 7, 15, 16, 17, 12]
    assert choose_rows(["good"] * 3, 8) == [1]
    assert choose_rows(["crack"], 8) == [0]


def test_a_changed_picture_is_prepared_again(pipeline: Pipeline, tmp_path: Path) -> None:
    from ndpnet.benchmark.tasks import Wishes, make_plan

    folder = tmp_path / "data" / CATEGORY / "train/good"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((64, 64), 10 * number, np.uint8)).save(folder / f"x_p0{number}_0.png")
    wishes = Wishes(tmp_path / "data", pipeline.params_path, None, (), [0], choose_variants(("softmax_scale 10",)))
    plan = make_plan(SUITES["folder"], [CATEGORY], wishes)
    again = make_plan(SUITES["folder"], [CATEGORY], wishes)
    assert plan.tasks.keys() == again.tasks.keys()
    # both variants share all but phase 2
    assert [task.kind for task in plan.tasks.values()] == [
        "prepared", "bank", "phase1", "model", "score", "time", "model", "score",
    ]  # fmt: skip
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "data" / CATEGORY / "roi.png")
    with_roi = make_plan(SUITES["folder"], [CATEGORY], wishes)
    assert set(with_roi.tasks) & set(plan.tasks) == {key for key, task in plan.tasks.items() if task.kind == "bank"}
    (tmp_path / "data" / CATEGORY / "roi.png").unlink()
    os.utime(folder / "x_p00_0.png", ns=(1, 1))
    changed = make_plan(SUITES["folder"], [CATEGORY], wishes)
    assert set(changed.tasks) & set(plan.tasks) == {key for key, task in plan.tasks.items() if task.kind == "bank"}


def test_devices_are_read() -> None:
    assert parse_devices("cpu, cpu") == ("cpu", "cpu")
    for text in ("", "gpu", "0,,1", "cpu,0", "-1"):
        with pytest.raises(ValueError, match="names no devices"):
            parse_devices(text)
    with pytest.raises(ValueError, match="CUDA devices are here"):
        parse_devices("4096")


def test_a_peers_numbers_are_numbers() -> None:
    for text in ("stfpm:steps=1e3", "stfpm:steps=5.5", "patchcore:coreset_ratio=x", "stfpm:allow_untrained=maybe"):
        with pytest.raises(ValueError, match=f"'{text.partition(':')[2]}' is not "):
            parse_peer(text)
    assert parse_peer("patchcore:coreset_ratio=1,allow_untrained=true")["allow_untrained"] is True


def test_two_peers_of_one_name_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    peers = ["--peer", "draem:steps=5,sources=a", "--peer", "draem:steps=5,sources=b"]
    done = run_cli(arguments(pipeline, tmp_path / "out", *peers, "--dry-run"), tmp_path / "log")
    assert done.error_lines == [
        "Error: two --peer are one row of the report (leave one out; sources and device do not tell them apart)"
    ]


def test_other_photographs_make_another_bank(pipeline: Pipeline, tmp_path: Path) -> None:
    from ndpnet.benchmark.tasks import Wishes, make_plan

    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photo)
    sources = (f"synthesis.sources={photo.parent}",)
    wishes = Wishes(pipeline.data_dir, pipeline.params_path, None, sources, [0], choose_variants(()))
    before = make_plan(SUITES["folder"], [CATEGORY], wishes).tasks
    assert make_plan(SUITES["folder"], [CATEGORY], wishes).tasks.keys() == before.keys()
    os.utime(photo, ns=(1, 1))
    after = make_plan(SUITES["folder"], [CATEGORY], wishes).tasks
    assert [before[key].kind for key in before.keys() & after.keys()] == ["prepared"]


def test_seeds_come_from_their_own_option_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    for option in ("-P", "--ablate"):
        done = run_cli(arguments(pipeline, tmp_path / "out", option, "seed=7", "--dry-run"), tmp_path / "log")
        assert done.error_lines == ["Error: 'seed=7': a benchmark takes its seeds from --seeds (leave it out)"]


def test_a_folder_in_use_or_a_file_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    with locked(tmp_path / "out", "in use", is_folder=True):
        done = run_cli(arguments(pipeline, tmp_path / "out"), tmp_path / "log")
    (line,) = done.error_lines
    assert line.startswith(f"Error: another process works in {tmp_path / 'out'} ")
    (tmp_path / "file").touch()
    done = run_cli(arguments(pipeline, tmp_path / "file"), tmp_path / "log")
    (line,) = done.error_lines
    assert line.startswith(f"Error: cannot write {tmp_path / 'file'}: ")


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    task = Task("score", "0" * 64, "score wall", {})
    task.folder(tmp_path).mkdir(parents=True)
    for damage in (b"", b"[]", b"\x80"):
        task.done(tmp_path).write_bytes(damage)
        with pytest.raises(ValueError, match=r"0\.done\.json is damaged \(remove it: score wall is run again\)"):
            task.metrics(tmp_path)


def test_without_test_images_there_is_no_figure(pipeline: Pipeline, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pipeline.data_dir / CATEGORY / "train", data / CATEGORY / "train")
    steps.prepare(data, CATEGORY, tmp_path / "prepared", pipeline.params, allow_unpinned=True)
    assert draw_figure(tmp_path / "prepared", pipeline.model_dir) is None
