"""Evidence: both models on the same images, paired; what one of them was made with is counted, not judged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from registered import with_threshold
from samples import Pipeline

from ndpnet.data.manifest import GOOD, Manifest
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import MANIFEST, read_package, write_config
from ndpnet.metrics import exact, summary
from ndpnet.promotion.evidence import JudgedModel, compare, find_worst_type, gather, time_both

METRICS = ("image_auroc", "pixel_auroc", "pro_auc", "recall")


def judge(scores: np.ndarray, types: list[str], groups: list[str]) -> JudgedModel:
    """A judgement of images whose maps are their score inside a square and noise around it."""
    rng = np.random.default_rng(0)
    maps, masks = rng.uniform(0, 0.3, (len(scores), 16, 16)).astype(np.float32), np.zeros((len(scores), 16, 16), bool)
    for row, (score, defect_type) in enumerate(zip(scores, types, strict=True)):
        maps[row, 4:8, 4:8] = score
        masks[row, 4:8, 4:8] = defect_type != GOOD
    record = {"value": 0.5, "statement": ""}
    test = summary.ScoredImages(
        groups=np.array(groups), types=np.array(types), scores=scores, threshold_record=record, maps=maps, masks=masks
    )
    return JudgedModel(test, summary.summarise(test, category="x"))


@pytest.fixture(scope="module")
def two() -> tuple[JudgedModel, JudgedModel]:
    """Judgements of 40 images in 20 groups: one model better than the other."""
    rng = np.random.default_rng(1)
    types = [GOOD] * 20 + ["hole"] * 12 + ["scratch"] * 8
    groups = [f"g{row // 2}" for row in range(40)]
    labels = np.array([each != GOOD for each in types])
    better = np.clip(0.4 + 0.2 * labels + rng.normal(0, 0.08, 40), 0, 1)
    lost = 0.15 * (np.array(types) == "scratch") - 0.05 * ~labels
    worse = np.clip(better - lost + rng.normal(0, 0.05, 40), 0, 1)
    return judge(better, types, groups), judge(worse, types, groups)


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_has_the_sign_of_who_is_better(two: tuple[JudgedModel, JudgedModel], metric: str) -> None:
    up, down = (compare(metric, *pair) for pair in (two, two[::-1]))
    assert (up.challenger, up.champion) == (down.champion, down.challenger)
    assert up.challenger > up.champion, "the test set does not tell them apart"
    assert up.spread == down.spread
    assert 0 < up.spread.error < 0.2
    assert up.spread.num_units == 10


def test_the_spread_is_that_of_the_same_groups_left_out_for_both(two: tuple[JudgedModel, JudgedModel]) -> None:
    first, second = (judgement.test for judgement in two)
    changes = []
    for group in np.unique(first.groups):
        kept = first.groups != group
        aurocs = [exact.image_auroc(each.scores[kept], each.labels[kept]) for each in (first, second)]
        changes.append(aurocs[0] - aurocs[1])
    compared = compare("image_auroc", *two)
    changes = np.array(changes) - (compared.challenger - compared.champion)
    assert compared.spread.error == pytest.approx((0.9 * (changes**2).sum()) ** 0.5, rel=1e-9)  # 10 groups of a class


def test_a_test_set_without_good_images_or_masks_gives_none(two: tuple[JudgedModel, JudgedModel]) -> None:
    rng = np.random.default_rng(0)
    bad = judge(rng.uniform(size=6), ["hole"] * 6, list("abcdef"))
    assert compare("image_auroc", bad, bad).challenger is None
    assert compare("recall", bad, bad).is_same_model


def test_the_same_scores_are_no_same_map(two: tuple[JudgedModel, JudgedModel]) -> None:
    test = two[0].test
    maps = test.maps.copy()
    maps[test.labels, 4:8, 4:7] = 0  # the highest pixels are what they were
    other = replace(test, maps=maps)
    other = JudgedModel(other, summary.summarise(other, category="x"))
    assert compare("image_auroc", other, two[0]).is_same_model
    assert not compare("pro_auc", other, two[0]).is_same_model


def test_the_type_that_lost_most_is_found(two: tuple[JudgedModel, JudgedModel]) -> None:
    worst = find_worst_type(two[1].summary, two[0].summary, METRICS)
    drops = {
        (name, metric): entry[metric]["value"] - two[1].summary["by_defect_type"][name][metric]["value"]
        for name, entry in two[0].summary["by_defect_type"].items()
        for metric in ("image_auroc", "pixel_auroc", "pro_auc")
    }
    assert (worst.defect_type, worst.metric) == max(drops, key=drops.get)
    assert worst.defect_type == "scratch"
    assert worst.drop == max(drops.values()) > 0
    only = find_worst_type(two[1].summary, two[0].summary, ("pro_auc", "recall"))
    assert only.metric == "pro_auc"
    assert find_worst_type(two[1].summary, two[0].summary, ("recall",)) is None


def test_two_thresholds_of_one_network(pipeline: Pipeline, tmp_path: Path) -> None:
    careless = with_threshold(pipeline.model_dir, tmp_path / "careless", 1e-6)
    sides = (careless, pipeline.prepared_dir), (pipeline.model_dir, pipeline.prepared_dir)
    evidence = gather(*sides, metrics=METRICS)
    assert evidence.num_seen == 0
    assert evidence.num_units == 6
    assert evidence.test_set["num_images"] == 12
    for metric in ("image_auroc", "pixel_auroc", "pro_auc"):
        assert evidence.metrics[metric].is_same_model, "the same maps"
    assert not evidence.metrics["recall"].is_same_model
    assert evidence.metrics["recall"].challenger == 1.0
    assert evidence.false_alarms["value"] == 1.0
    assert evidence.worst_type.drop == 0.0
    assert 0.3 < evidence.latency_ratio < 3.0
    assert set(evidence.milliseconds) == {"challenger", "champion"}
    alone = gather(sides[1], None, metrics=("image_auroc",))
    assert alone.metrics["image_auroc"].champion is None
    assert (alone.worst_type, alone.latency_ratio) == (None, None)
    assert alone.metrics["image_auroc"].challenger == evidence.summaries["champion"]["image_auroc"]["value"]


def test_test_images_in_either_manifest_are_counted(pipeline: Pipeline, tmp_path: Path) -> None:
    tests = Manifest.load(pipeline.prepared_dir / "manifest.json").records("test")
    leaky = shutil.copytree(pipeline.model_dir, tmp_path / "leaky")
    own = Manifest.load(leaky / MANIFEST)
    seen = (replace(tests[0], split="validation"), replace(tests[1], split="train", sha256="of another format"))
    Manifest(own.category, own.files + seen).save(leaky / MANIFEST)
    write_config(leaky, json.loads((leaky / "config.json").read_text()))
    read_package(leaky)
    prepared = pipeline.prepared_dir
    sides = [(leaky, prepared), (pipeline.model_dir, prepared)]
    for challenger, champion in (sides, sides[::-1], (sides[0], None)):
        evidence = gather(challenger, champion, metrics=METRICS)
        assert evidence.num_seen == 2
    assert gather(sides[1], None, metrics=()).num_seen == 0


def test_another_category_and_other_test_images_are_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    side = (pipeline.model_dir, pipeline.prepared_dir)
    manifest = Manifest.load(pipeline.prepared_dir / "manifest.json")
    other, fewer = (shutil.copytree(pipeline.prepared_dir, tmp_path / name) for name in ("other", "fewer"))
    replace(manifest, category="floor").save(other / "manifest.json")
    with pytest.raises(ValueError, match="of the category 'floor', the model of 'wall'"):
        gather((pipeline.model_dir, other), None, metrics=METRICS)
    changed = tuple(replace(each, group="x") if each.split == "test" else each for each in manifest.files)
    replace(manifest, files=changed).save(fewer / "manifest.json")
    with pytest.raises(ValueError, match="differ in their test images or groups"):
        gather(side, (pipeline.model_dir, fewer), metrics=METRICS)


def test_the_slower_one_takes_longer(pipeline: Pipeline) -> None:
    fast, slow = (Inspector.load(pipeline.model_dir) for _ in range(2))
    once = slow.predict
    slow.predict = lambda image: [once(image) for _ in range(4)][-1]
    images = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    seconds = time_both([fast, slow], [images, images])
    assert 2.0 < seconds[1] / seconds[0] < 8.0
