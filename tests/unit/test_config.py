"""Parameters: one file, typed, with errors in one line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ndpnet.config import PARAMS_PATH, Params, load_params, parse_params
from ndpnet.config_platform import ClusterConfig, PromotionConfig, cluster_of, promotion_of

# METHOD, in params.yaml's terms; the rest of the model: test_reference_step
PAPER = """
    data.image_size=256 data.calibration_fraction=0 data.validation_fraction=0
    synthesis.num_sources=2048 synthesis.source_augmentation=draem synthesis.patch_size=256 synthesis.line_share=0
    synthesis.crack_share=0 synthesis.plain_share=0 synthesis.beta_max=0 synthesis.edge_softness=0
    synthesis.surface_jitter=0
    model.base_width=64 model.ffm_channels=64 model.num_references=1
    losses.perceptual_weights=torchvision losses.reconstruction_weight=100 losses.perceptual_weight=1
    losses.defect_perception_weight=1 losses.feature_repair_weight=1 losses.segmentation_weight=1 losses.focal_gamma=2
    losses.focal_alpha=0.5 losses.feature_repair_relative=false losses.perceptual_maps=first_five
    train.batch_size=8 train.precision=32-true train.weight_decay=1e-5 train.schedule=constant train.gradient_clip=0
    train.ema_decay=0
    train.phase1.epochs=400 train.phase1.min_steps=0 train.phase1.learning_rate=1e-4 train.phase1.defect_free_share=0
    train.phase2.epochs=200 train.phase2.min_steps=0 train.phase2.learning_rate=1e-4 train.phase2.defect_free_share=0.3
"""


def sections(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section of the parameters and those in it."""
    yield of
    for field in of.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation)


def one_line_error(*overrides: str, **settings: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load_params(overrides=overrides, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_default_stands_in_the_file_and_nothing_else_does() -> None:
    found = [*sections(Params), *sections(PromotionConfig), *sections(ClusterConfig)]
    defaults = [name for each in found for name, field in each.model_fields.items() if not field.is_required()]
    assert defaults == ["promotion", "cluster"]  # which do not travel with a run
    assert {each.model_config["extra"] for each in found} == {"forbid"}
    for name in yaml.safe_load(PARAMS_PATH.read_text())["profiles"]:
        params = load_params(profile=name)
        assert params.profile == name
        assert promotion_of(params)
        assert cluster_of(params)


def test_the_paper_profile_is_the_paper() -> None:
    assert load_params(profile="paper", overrides=PAPER.split()) == load_params(profile="paper")


def test_a_profile_lies_under_the_overrides() -> None:
    params = load_params(profile="paper", overrides=["train.phase1.epochs=5", "seed=7", "model.patch_sizes=[2]"])
    assert (params.train.phase1.epochs, params.train.phase2.epochs) == (5, 200)
    assert (params.seed, params.model.patch_sizes, params.model.base_width) == (7, (2,), 64)
    assert load_params(overrides=["train.phase1.learning_rate=1e-3"]).train.phase1.learning_rate == 0.001
    assert load_params(overrides=["synthesis.sources=a=b"]).synthesis.sources == "a=b"
    assert load_params(overrides=['data.group_pattern=""']).data.group_pattern == ""
    assert load_params(overrides=["data.group_pattern="]).data.group_pattern == ""
    assert load_params(overrides=[r"data.group_pattern=lot #(\d+)_"]).data.group_pattern == r"lot #(\d+)_", "no comment"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.phase1.epoch=3", "unknown parameter 'train.phase1.epoch' (did you mean 'epochs'?)"),
        ("trian.batch_size=3", "unknown parameter 'trian.batch_size' (did you mean 'train'?)"),
        ("seed.value=3", "unknown parameter 'seed.value' (did you mean 'seed'?)"),
        ("train.phase1.xyz=3", "(known: epochs, min_steps, learning_rate, defect_free_share)"),
        ("train.phase1={epoch: 3}", "unknown parameter 'train.phase1.epoch' (did you mean 'epochs'?)"),
        ("seed", "parameter 'seed' has no value (write name=value, as in train.phase1.epochs=5)"),
        ("model.patch_sizes=[2,", "parameter 'model.patch_sizes': '[2,' is not valid YAML"),
        ("profile=paper", "profile is no single parameter (choose it with --profile"),
        ("categories=[2024]", "'categories.0': Input should be a valid string, not 2024 (put it in quotes)"),
        ("model.patch_sizes=[2, 3]", "'model.patch_sizes.1': Input should be 1, 2 or 4, not 3"),
        ("data.tile_side=200", "multiple of 64, not 200"),
        ("seed=9223372036854775808", "not 9223372036854775808"),
        ("runtime.devices=3", "train.batch_size 8 is no multiple of runtime.devices"),
        ("losses.focal_gamma=0.5", "0.5"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_name_or_the_fix(override: str, message: str) -> None:
    assert message in one_line_error(override)


def test_checks_over_several_parameters() -> None:
    message = one_line_error("synthesis.line_share=0.5", "synthesis.crack_share=0.6")
    assert message == "synthesis.line_share 0.5 and crack_share 0.6 are more than all masks"
    message = one_line_error("synthesis.patch_size=256", "data.image_size=128")
    assert message == "synthesis.patch_size 256 is above data.image_size 128"
    message = one_line_error("data.mode=tile", "data.tile_side=192")
    assert message == "data.tile_side 192 is below data.image_size 256"
    assert load_params(overrides=["data.tile_side=192"]).data.mode == "resize"  # where it means nothing


def test_an_unknown_profile_is_met_with_the_nearest() -> None:
    assert one_line_error(profile="papr") == "unknown profile 'papr' (did you mean 'paper'?)"
    assert "(known: demo, line, paper)" in one_line_error(profile="xyz123")


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    assert one_line_error(path=path).startswith(f"no parameter file {path}")
    path.write_text("seed: [1\nmodel: {")
    assert one_line_error(path=path).startswith(f"{path} is not valid YAML: ")
    path.write_text("seed: 1\nprofile: demo\nseed: 2")  # of which the last one would be taken
    assert one_line_error(path=path) == f"{path} is not valid YAML: seed stands twice (lines 1 and 3)"
    path.write_text("- a list")
    assert "is not a table of parameters" in one_line_error(path=path)
    values = yaml.safe_load(PARAMS_PATH.read_text())
    del values["model"]["norm"]
    values["trian"] = {"batch_size": 1}
    path.write_text(yaml.safe_dump(values))
    message = one_line_error(path=path)
    assert "parameter 'model.norm' is missing" in message
    assert "unknown parameter 'trian' (did you mean 'train'?)" in message
    del values["trian"], values["promotion"]
    path.write_text(yaml.safe_dump(values))
    assert "parameter 'promotion' is missing" in one_line_error(path=path)


def test_json_keeps_integers_and_a_large_seed() -> None:
    params = load_params(profile="paper", overrides=[f"seed={2**63 - 1}"])
    text = params.to_json()
    assert "\n" not in text
    without_cluster = params.model_copy(update={"cluster": None})  # it does not travel
    assert parse_params(text) == without_cluster
    plain = json.loads(text)
    assert plain["seed"] == 9223372036854775807
    assert isinstance(plain["train"]["batch_size"], int)
    assert isinstance(plain["model"]["patch_sizes"][0], int)
    assert parse_params(params) is params
    assert parse_params(plain) == without_cluster
    assert parse_params(text).to_json() == text


def test_json_is_validated_too() -> None:
    values = json.loads(load_params().to_json())
    values["model"]["with"] = 3
    with pytest.raises(ValueError, match=r"unknown parameter 'model.with'"):
        parse_params(json.dumps(values))
    with pytest.raises(ValueError, match=r"^Invalid JSON"):
        parse_params("{")


def test_bounds_of_a_promotion_do_not_travel_to_a_training() -> None:
    params = load_params(overrides=["promotion.false_alarm_budget=0.02"])
    assert params.training_json() == load_params().training_json()
    assert params.to_json() != load_params().to_json()
    trained_with = parse_params(params.training_json())
    assert promotion_of(parse_params(params.to_json())).false_alarm_budget == 0.02
    with pytest.raises(ValueError, match="no section promotion"):
        promotion_of(trained_with)


def test_a_floor_without_a_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="floors has image_auroc, which"):
        promotion_of(load_params(overrides=["promotion.tolerances={recall: 0.5}"]))


def test_a_mistyped_parameter_of_the_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cluster.tolerations.0.tolerationSeconds.*toleration_seconds"):
        cluster_of(load_params(overrides=["cluster.tolerations=[{key: a, tolerationSeconds: 300}]"]))
    with pytest.raises(ValueError, match=r"work_dir s3://plant/work is no place to mount"):
        cluster_of(load_params(overrides=["cluster.work_dir=s3://plant/work"]))
    with pytest.raises(ValueError, match=r"unknown parameter 'cluster.imag' \(did you mean 'image'\?\)"):
        load_params(overrides=["cluster.imag=x"])
    values = yaml.safe_load(PARAMS_PATH.read_text())
    values["cluster"]["other_pod"]["cpus"] = 4
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"unknown parameter 'cluster\.other_pod\.cpus'"):
        cluster_of(load_params(path))
