"""`ndpnet benchmark` in processes: a whole run, a killed one that goes on, a category that fails."""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from processes import kill_when, run_cli, start_cli
from samples import CATEGORY, Pipeline, write_picture

from ndpnet.benchmark.run import SuiteRequest, rows_of
from ndpnet.benchmark.suites import SUITES
from ndpnet.benchmark.variants import ABLATIONS, FULL, choose_variants
from ndpnet.config import PARAMS_PATH, load_params
from ndpnet.locks import locked

VARIANTS = ("without RBAM", "pixel gap for MSDSM")


def arguments(pipeline: Pipeline, out: Path, *options: str, data_dir: Path | None = None) -> list[object]:
    call = ["benchmark", "folder", "--data", data_dir or pipeline.data_dir, "--out", out]
    return [*call, "--params", pipeline.params_path, *options]


def request_of(pipeline: Pipeline, out: Path, **changes: object) -> SuiteRequest:
    """A request of suite `folder` and one seed, with what is given changed."""
    values = {"suite": "folder", "data_dir": pipeline.data_dir, "out": out, "categories": (), "seeds": (0,)}
    values |= {"ablations": (), "peers": (), "devices": ("cpu",), "profile": None, "overrides": ()}
    return SuiteRequest(**values | {"params_path": pipeline.params_path} | changes)


def finished(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("*/*.json")}


@pytest.mark.slow
def test_a_killed_suite_goes_on_computes_nothing_twice_and_a_category_that_fails_leaves_the_others(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    out, data, methods = tmp_path / "out", tmp_path / "data", [FULL.name, *VARIANTS]
    write_picture(data / "broken/train/good/broken_p00_0.png", np.zeros((64, 64), np.uint8)).write_bytes(b"no picture")
    (data / CATEGORY).symlink_to(pipeline.data_dir / CATEGORY)
    call = arguments(pipeline, out, *(part for name in VARIANTS for part in ("--ablate", name)), data_dir=data)
    assert kill_when(start_cli(call, tmp_path / "log"), lambda: len(finished(out)) == 3)
    before = finished(out)
    done = run_cli(call, tmp_path / "log")
    assert done.exit_code == 1, done.stderr
    said = dict(line.split(": ", 1) for line in done.error_lines)
    assert sorted(said) == sorted(f"broken, seed 0, {method}" for method in methods)
    assert len(done.error_lines) == 3
    assert all("broken_p00_0.png" in reason for reason in said.values())
    assert before.items() <= finished(out).items()
    # prepared, bank, phase 1, two models, and three rows
    assert len(finished(out)) == 8
    rows = json.loads((out / "results.json").read_text())
    scores = {name: [row["scores"] for row in rows if row["category"] == name] for name in ("broken", CATEGORY)}
    assert [row["method"] for row in rows if row["category"] == CATEGORY] == methods
    assert scores["broken"] == [None] * 3
    assert len({each["all"]["pixel_auroc"] for each in scores[CATEGORY]}) == 3
    assert None not in [each["all"]["image_auroc"] for each in scores[CATEGORY]]
    # the same training as the pipeline's own
    weights = {path.read_bytes() for path in (out / "model").glob("*/weights.safetensors")}
    assert (pipeline.model_dir / "weights.safetensors").read_bytes() in weights
    report = (out / "report.md").read_text()
    assert ("Table VI" in report, "FAILED: broken" in report) == (True, True)
    assert f"| {FULL.name} | {CATEGORY} |" in done.stdout
    # without the one that fails: nothing is left to do
    planned = run_cli([*call, "--category", CATEGORY, "--dry-run"], tmp_path / "log").stdout.splitlines()
    assert planned == [f"done   {CATEGORY}, seed 0, {name}" for name in methods]


def test_every_ablation_is_a_choice_of_parameters_that_exist() -> None:
    for variant in ABLATIONS.values():
        values = load_params(profile="line", overrides=variant.overrides).model_dump(mode="json")
        for override in variant.overrides:
            name, _, text = override.partition("=")
            section, *path = name.split(".")
            assert functools.reduce(dict.__getitem__, path, values[section]) == yaml.safe_load(text), override
    assert [variant.name for variant in choose_variants((), "own")] == [FULL.name]
    assert choose_variants(("K = 2",), "own")[1].overrides == ("model.patch_sizes=[2]",)
    assert choose_variants(("train.batch_size=4",), "own")[1].overrides == ("train.batch_size=4",)
    with pytest.raises(ValueError, match="no ablation 'RBAM'"):
        choose_variants(("RBAM",), "own")


def test_of_a_group_what_fits_the_model_is_chosen(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "data" / CATEGORY / "train/good").mkdir(parents=True)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "data" / CATEGORY / "train/good/x_p00_0.png")

    def chosen(profile: str, group: str) -> set[str]:
        where = {"data_dir": tmp_path / "data", "params_path": PARAMS_PATH}
        rows = rows_of(request_of(pipeline, tmp_path / "out", **where, ablations=(group,), profile=profile))
        return {row.method for row in rows} - {FULL.name}

    of_line, of_paper = chosen("line", "all"), chosen("paper", "all")
    assert of_line | of_paper == set(ABLATIONS)
    assert {"segmentation alone", "distance alone"} <= of_line - of_paper
    assert {"without RBAM", "MSFR for MSDSM"} <= of_paper - of_line
    assert chosen("paper", "own") == of_paper - chosen("paper", "paper")
    with pytest.raises(ValueError, match="'without L_def_per' is of the paper's encoder"):
        chosen("line", "paper")


def test_suites_name_their_categories(tmp_path: Path) -> None:
    for name in ("carpet", "grid", "leather", "tile", "wood"):
        (tmp_path / name / "train/good").mkdir(parents=True)
    suite = SUITES["mvtec-textures"]
    assert suite.find_categories(tmp_path, ()) == list(suite.categories)
    assert suite.find_categories(tmp_path, ("wood",)) == ["wood"]
    with pytest.raises(ValueError, match="has no category 'bottle'"):
        suite.find_categories(tmp_path, ("bottle",))
    odd, even = (SUITES["kolektor"].subsets[f"{name} items"] for name in ("odd", "even"))
    assert (odd("kos07"), even("kos07"), even("kos12")) == (True, False, True)


def test_what_a_row_depends_on_names_its_folders(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "data" / CATEGORY / "train/good"
    photo = tmp_path / "photos/a.png"
    for path in (folder / "x_p00_0.png", folder / "x_p01_0.png", photo):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    request = request_of(
        pipeline,
        tmp_path / "out",
        data_dir=tmp_path / "data",
        ablations=("softmax_scale 10", "pixel gap for MSDSM"),
        overrides=(f"synthesis.sources={photo.parent}",),
    )

    def folders() -> list[tuple[Path, ...]]:
        return [(row.prepared_dir, row.bank_dir, row.phase1_dir, row.model_dir, row.path) for row in rows_of(request)]

    before = folders()
    full, softer, pixel_gap = before
    assert full[:3] == softer[:3]  # all but phase 2
    assert full[:4] == pixel_gap[:4]  # another map of the same model
    assert len({row[-1] for row in before}) == 3
    assert folders() == before
    for changed, same in ((folder / "x_p00_0.png", 1), (photo, 0)):
        os.utime(changed, ns=(1, 1))
        after = folders()
        assert [first == second for first, second in zip(before[0], after[0], strict=True)] == [
            index == same for index in range(5)
        ]
        before = after
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "data" / CATEGORY / "roi.png")
    assert folders()[0][0] != before[0][0]


def test_a_folder_in_use_or_a_file_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    with locked(tmp_path / "out", "in use", is_folder=True):
        (line,) = run_cli(arguments(pipeline, tmp_path / "out"), tmp_path / "log").error_lines
    assert line.startswith(f"Error: another process works in {tmp_path / 'out'} ")
    (tmp_path / "file").touch()
    (line,) = run_cli(arguments(pipeline, tmp_path / "file"), tmp_path / "log").error_lines
    assert line.startswith(f"Error: cannot write {tmp_path / 'file'}: ")
