"""The model card: the numbers and words that a person decides by, from hostile names as well."""

import re
from typing import Any

import numpy as np
import pytest
from samples import CATEGORY, Pipeline

from ndpnet.inference.package import ModelPackage, read_package
from ndpnet.metrics.summary import ScoredImages, summarise
from ndpnet.model_card import write_card
from ndpnet.tracking.flat import flat_params

TAGS = {
    "ndpnet.package_hash": "a" * 64,
    "ndpnet.git_commit": "c" * 40,
    "ndpnet.git_dirty": "false",
    "ndpnet.lock_hash": "d" * 64,
}


@pytest.fixture(scope="module")
def package(pipeline: Pipeline) -> ModelPackage:
    """The small model."""
    return read_package(pipeline.model_dir)


def summary_of(
    package: ModelPackage, *, types: tuple[str, ...] = ("hole", "scratch"), **changes: Any
) -> dict[str, Any]:
    """The metrics of ten good images at score 0.1 and five per defect type, of which four are found."""
    above = package.threshold["value"] + 0.1
    scores = [0.1] * 10 + ([above] * 4 + [0.1]) * len(types)
    kinds = ["good"] * 10 + [kind for kind in types for _ in range(5)]
    return summarise(scored(kinds, scores, package.threshold), category=CATEGORY) | changes


def scored(kinds: list[str], scores: list[float], threshold: dict[str, Any] | None) -> ScoredImages:
    groups = np.array([f"p{number}" for number in range(len(scores))])
    return ScoredImages(groups=groups, types=np.array(kinds), scores=np.array(scores), threshold_record=threshold)


def card_of(package: ModelPackage, summary: dict[str, Any] | None = None, **changes: Any) -> str:
    """The card with TAGS."""
    timing = {"seconds_per_image": 0.0123, "machine": "Linux x86_64"}
    options = {"name": "ndpnet-wall", "tags": TAGS} | changes
    return write_card(package, summary or summary_of(package), timing, **options)


def rows_of(card: str, heading: str) -> dict[str, list[str]]:
    """The table rows of a section by their first cell."""
    section = re.split(r"(?m)^## ", card.partition(f"## {heading}\n")[2])[0]
    rows = [re.split(r"(?<!\\) ?\| ?", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in rows}


def test_the_card_has_the_numbers_of_the_package_and_its_evaluation(package: ModelPackage) -> None:
    card = card_of(package, licence="CC BY-NC-SA 4.0")
    assert card.startswith("# ndpnet-wall\n\nThe model flagged 8 of 10 defective images (80.0 %)")
    metrics = rows_of(card, "Metrics")
    assert metrics["recall"][0].startswith("80.0 % (44.4–97.5)")
    assert metrics["false alarms"][0].startswith("0.0 % (0.0–30.8)")
    assert metrics["pixel ROCAUC"][0] == "n/a"
    for kind in ("hole", "scratch"):
        assert metrics[kind][0] == "5"
        assert metrics[kind][1].startswith("90.0 % (")
        assert metrics[kind][4].startswith("80.0 % (28.4–99.5)")
    assert package.threshold["statement"] in card
    assert f"above {package.threshold['value']}." in card
    for each in package.threshold["highest"]:
        assert rows_of(card, "Threshold and its guarantee")[each["path"]][0] == f"{each['score']:.4g}"
    data = rows_of(card, "Data")
    # the ten groups of two pictures each, and the test images
    assert [data[split] for split in ("train", "validation", "calibration", "test")] == [
        ["12", "0"], ["2", "0"], ["6", "0"], ["10", "10"],
    ]  # fmt: skip
    for known in ("Pictures of 64x64 pixels.", "Licence of the data: CC BY-NC-SA 4.0\n", "12.3 ms per test image"):
        assert known in card
    shown, lineage = rows_of(card, "Lineage"), package.config["lineage"]
    assert shown["lock_hash"] == ["d" * 64]
    for key in ("training_data_hash", "params_hash", "code_hash", "phase1_hash", "processor"):
        assert shown[key] == [lineage[key]]
    assert (shown["is_data_pinned"], shown["is_recalibrated"]) == (["false"], ["false"])
    assert "| Data pinned | false |" in card
    parameters = rows_of(card, "Parameters")
    assert parameters["train.phase1.epochs"] == ["4.0"]
    assert len(parameters) == len(flat_params(package.config["params"])) + 1  # and the head
    assert f"git checkout {'c' * 40}\n" in card.partition("## Reproduce")[2]


def test_what_is_not_known_is_said(package: ModelPackage) -> None:
    card = card_of(package, tags={"ndpnet.package_hash": "a" * 64})
    assert "Licence of the data: unknown" in card
    assert "| Code | unknown |" in card
    assert "The commit is unknown" in card


def test_pinned_data_are_said_to_be(package: ModelPackage) -> None:
    assert "The data was not pinned" in card_of(package)
    pinned = package.config["lineage"] | {"is_data_pinned": True}
    card = card_of(ModelPackage(package.folder, package.config | {"lineage": pinned}))
    assert "| Data pinned | true |" in card
    assert "The same weights bit for bit" in card


def test_a_model_without_a_threshold_promises_nothing(package: ModelPackage) -> None:
    bare = ModelPackage(package.folder, package.config | {"threshold": None})
    made = summarise(scored(["good", "good", "hole", "hole"], [0.1, 0.2, 0.3, 0.4], None), category=CATEGORY)
    card = card_of(bare, made)
    assert "None: no image was held out to fit one" in card
    assert rows_of(card, "Metrics")["recall"][0] == "n/a"


def test_hostile_names_stay_in_their_cells(package: ModelPackage) -> None:
    names = ("a|b", "<img src=x onerror=alert(1)>", "line\nbreak\r## Head", "`code", "[link](http://x)", "ü 傷", "\\|")
    card = card_of(package, summary_of(package, types=names), licence="mine | ```\n## not a heading <b>")
    assert "<" not in card
    headings = [line for line in card.splitlines() if line.startswith("#") and not line.startswith("# or")]
    assert headings == [
        "# ndpnet-wall", "## Metrics", "## Threshold and its guarantee", "## Limits", "## Data", "## Latency",
        "## Lineage", "## Reproduce", "## Parameters",
    ]  # fmt: skip
    types = card.partition("| Defect type |")[2].partition("## Threshold")[0].splitlines()
    rows = [line for line in types if line.startswith("| ") and "%" in line]
    assert len(rows) == len(names)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {8}
    assert card.count("```") == 2


def test_the_command_is_quoted_for_the_shell(package: ModelPackage) -> None:
    config = package.config | {"category": "my wall; rm -rf ~"}
    card = card_of(ModelPackage(package.folder, config), name="ndpnet-my wall")
    assert "dvc repro 'evaluate@my wall; rm -rf ~'\n" in card
    assert "ndpnet reproduce 'ndpnet-my wall' VERSION\n" in card
