"""Each component's function in this process, on real inputs: what it writes, returns and shows on KFP's pages."""

import json
from pathlib import Path

import pytest
from kfp import dsl
from repositories import DVC, Repository
from samples import CATEGORY, Pipeline

from ndpnet.components.training import category_row, choose_categories, evaluate, prepare, version_data
from ndpnet.config import load_params
from ndpnet.config_platform import promotion_of
from ndpnet.data.manifest import Manifest


def made(folder: Path, kind: type[dsl.Artifact], name: str, path: Path | None = None) -> dsl.Artifact:
    """An artifact as KFP gives it to a component: a path below the folder, or one of an input."""
    return kind(name=name, uri=str(path or folder / name), metadata={})


def test_evaluate_shows_what_it_found(pipeline: Pipeline, tmp_path: Path) -> None:
    metrics, roc = made(tmp_path, dsl.Metrics, "metrics"), made(tmp_path, dsl.ClassificationMetrics, "roc")
    page, evaluation = made(tmp_path, dsl.HTML, "page.html"), made(tmp_path, dsl.Artifact, "evaluation")
    inputs = {
        "prepared": made(tmp_path, dsl.Dataset, "prepared", pipeline.prepared_dir),
        "model": made(tmp_path, dsl.Model, "model", pipeline.model_dir),
    }
    outputs = {"evaluation": evaluation, "metrics": metrics, "roc": roc, "report": page}
    outputs["summary"] = str(tmp_path / "summary")
    params = pipeline.params.to_json()
    passes = evaluate.python_func(**inputs, **outputs, params=params)
    found = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert metrics.metadata["image_auroc"] == found["image_auroc"]["value"]
    assert metrics.metadata["pro_auc"] == found["pro_auc"]["value"]
    points = roc.metadata["confidenceMetrics"]
    assert (points[0]["recall"], points[-1]["recall"], points[-1]["falsePositiveRate"]) == (0.0, 1.0, 1.0)
    counts, matrix = found["confusion"], [row["row"] for row in roc.metadata["confusionMatrix"]["rows"]]
    assert matrix == [
        [counts["true_negative"], counts["false_positive"]],
        [counts["false_negative"], counts["true_positive"]],
    ]
    assert (tmp_path / "page.html").read_text() == (tmp_path / "evaluation/report.html").read_text()
    row = json.loads(category_row.python_func(CATEGORY, (tmp_path / "summary").read_text()))
    assert row["values"]["image_auroc"]["value"] == found["image_auroc"]["value"]
    report_path = tmp_path / "evaluation/report.html"
    assert row["places"] == {"report": str(report_path), "model": str(pipeline.model_dir)}
    floors = promotion_of(pipeline.params).floors
    assert passes == all(found[name]["value"] >= floor for name, floor in floors.items())


def test_a_branch_is_resolved_to_its_commit_and_that_is_prepared(
    repository: Repository, pipeline: Pipeline, tmp_path: Path
) -> None:
    repository.set_remote(str(tmp_path / "storage"))
    commit = repository.commit("say where the data are kept")
    repository.run(*DVC, "push")
    version = made(tmp_path, dsl.Dataset, "version")
    found = version_data.python_func(version, json.dumps({"url": str(repository.folder), "revision": "main"}))
    source = json.loads(found.source)
    assert (source["revision"], source["version"]) == (commit, found.data_hash)
    assert not any(Path(version.path).rglob("*.png"))  # no picture travels
    chosen = choose_categories.python_func(version, [], False)
    assert chosen == ["tile", "wall"]
    params = load_params(pipeline.params_path, overrides=["data.group_pattern=''"]).to_json()
    prepared = made(tmp_path, dsl.Dataset, "prepared")
    assert prepare.python_func(prepared, found.source, "tile", params) > 0
    manifest = Manifest.load(Path(prepared.path) / "manifest.json")
    assert json.loads((Path(prepared.path) / "prepared.json").read_text())["is_pinned"] is True
    assert {record.path for record in manifest.files} == {
        path.removeprefix("tile/")
        for path in json.loads((Path(version.path) / "resolved.json").read_text())["files"]
        if path.startswith("tile/") and "ground_truth" not in path
    }
    with pytest.raises(ValueError, match="the data have no category 'wood' \\(they have: tile, wall\\)"):
        choose_categories.python_func(version, ["wood"], False)


def test_a_pinned_folder_that_changes_is_not_the_version_that_was_meant(
    repository: Repository, pipeline: Pipeline, tmp_path: Path
) -> None:
    version = made(tmp_path, dsl.Dataset, "version")
    found = version_data.python_func(version, json.dumps({"folder": str(repository.data_dir)}))
    (repository.data_dir / "wall/train/good/p01.png").unlink()
    with pytest.raises(ValueError, match=r"is not what data.dvc pins: 1 deleted"):
        prepare.python_func(made(tmp_path, dsl.Dataset, "prepared"), found.source, "wall", pipeline.params.to_json())
    repository.pin()
    with pytest.raises(ValueError, match=r"the data are version \w+ now, \w+ was meant"):
        prepare.python_func(made(tmp_path, dsl.Dataset, "prepared"), found.source, "wall", pipeline.params.to_json())


def test_a_password_in_the_git_url_is_refused(tmp_path: Path) -> None:
    for source in ('{"url": "https://me:secret@git.example/data.git"}', '{"ur": "https://me:secret@git.example"}'):
        with pytest.raises(ValueError, match=r"holds a password|names no place of data") as refused:
            version_data.python_func(made(tmp_path, dsl.Dataset, "version"), source)
        assert "secret" not in str(refused.value)
