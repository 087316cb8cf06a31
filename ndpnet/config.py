"""Typed, frozen, validated view of params.yaml; an unknown key is an error with the nearest name."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ndpnet.files import read_yaml

PARAMS_PATH = Path(__file__).with_name("params.yaml")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A block of parameters: no default here (they stand in params.yaml), no unknown key, no change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


class DataConfig(Section):
    """What `prepare` does with pictures."""

    mode: Literal["resize", "tile"]
    image_size: Annotated[int, Field(ge=64, multiple_of=64)]
    scale: Annotated[float, Field(gt=0, le=1)]
    tile_stride: Positive
    tile_margin: Annotated[int, Field(ge=0)]
    tile_min_contrast: NotNegative
    tile_side: Annotated[int, Field(ge=128, multiple_of=64)]
    group_pattern: str
    calibration_fraction: Annotated[float, Field(ge=0, lt=1)]
    validation_fraction: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _tiles_are_as_large_as_trained_on(self) -> "DataConfig":
        if self.mode == "tile" and self.tile_side < self.image_size:
            raise ValueError(f"data.tile_side {self.tile_side} is below data.image_size {self.image_size}")
        return self


class SynthesisConfig(Section):
    """The defect bank and how it is composed with surfaces."""

    sources: str
    num_sources: Positive
    source_augmentation: Literal["none", "draem"]
    num_masks: Positive
    patch_size: Annotated[int, Field(ge=64, multiple_of=64)]
    line_share: Fraction
    crack_share: Fraction
    plain_share: Fraction
    plain_contrast: Fraction
    surface_share: Fraction
    beta_max: Fraction
    edge_softness: Fraction
    surface_jitter: Fraction

    @model_validator(mode="after")
    def _shares_are_of_all_masks(self) -> "SynthesisConfig":
        if self.line_share + self.crack_share > 1:
            raise ValueError(
                f"synthesis.line_share {self.line_share} and crack_share {self.crack_share} are more than all masks"
            )
        return self


class ModelConfig(Section):
    """The network."""

    encoder: str
    encoder_weights: str
    bank_size: Annotated[int, Field(ge=64, multiple_of=64)]
    head_channels: Positive
    base_width: Annotated[int, Field(ge=4, multiple_of=4)]
    softmax_scale: Annotated[float, Field(gt=0)]
    patch_sizes: tuple[Literal[1, 2, 4], ...]
    ffm_channels: Positive
    ffm_kernel: Literal[1, 3, 5, 7]
    ffm_norm: bool
    segmentation_input: Literal["concat", "concat_difference", "product"]
    norm: Literal["batch", "group"]
    reference: Literal["first", "medoid"]
    num_references: Positive
    anomaly_map: Literal["segmentation", "distance", "fused"]
    score_pixels: Positive


class LossConfig(Section):
    """Weights of the loss terms (Eq. 12-17)."""

    perceptual_weights: str
    perceptual_maps: Literal["first_five", "block_starts"]
    reconstruction_weight: NotNegative
    perceptual_weight: NotNegative
    defect_perception_weight: NotNegative
    feature_repair_weight: NotNegative
    feature_repair_relative: bool
    segmentation_weight: NotNegative
    focal_gamma: NotNegative
    focal_alpha: Fraction

    @model_validator(mode="after")
    def _focal_has_a_gradient(self) -> "LossConfig":
        if 0 < self.focal_gamma < 1:
            raise ValueError(f"losses.focal_gamma {self.focal_gamma} has no finite gradient at 0 (use 0, or 1 up)")
        return self


class PhaseConfig(Section):
    """One training phase."""

    epochs: Annotated[float, Field(gt=0)]
    min_steps: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    defect_free_share: Fraction


class TrainConfig(Section):
    """Optimisation."""

    batch_size: Positive
    num_threads: Positive
    precision: Literal["32-true", "bf16-mixed"]
    weight_decay: NotNegative
    schedule: Literal["constant", "cosine"]
    gradient_clip: NotNegative
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    num_validations: Annotated[int, Field(ge=0)]
    phase1: PhaseConfig
    phase2: PhaseConfig


class EvaluationConfig(Section):
    """Metrics, threshold and report."""

    target_false_alarm_rate: Annotated[float, Field(gt=0, lt=1)]
    num_cases: Positive


class RuntimeConfig(Section):
    """How a step runs on this machine: no part of a model's identity."""

    accelerator: Literal["auto", "cpu", "cuda"]
    devices: Positive
    deterministic: bool
    recompute_features: bool
    checkpoint_seconds: NotNegative
    log_seconds: NotNegative


class Params(Section):
    """All parameters, resolved: profile and overrides already applied."""

    profile: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    categories: tuple[str, ...]
    data: DataConfig
    synthesis: SynthesisConfig
    model: ModelConfig
    losses: LossConfig
    train: TrainConfig
    evaluation: EvaluationConfig
    runtime: RuntimeConfig
    # of the platform, which reads them by `ndpnet.config_platform`; where they are not needed a run has none
    promotion: dict[str, Any] | None = None
    cluster: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _sections_fit(self) -> "Params":
        if self.train.batch_size % self.runtime.devices:
            raise ValueError(
                f"train.batch_size {self.train.batch_size} is no multiple of runtime.devices {self.runtime.devices}"
            )
        if self.synthesis.patch_size > self.data.image_size:
            raise ValueError(
                f"synthesis.patch_size {self.synthesis.patch_size} is above data.image_size {self.data.image_size}"
            )
        return self

    def to_json(self) -> str:
        """One line of JSON with every resolved value of what is computed: how parameters travel between processes.

        Without `cluster`: else more memory for a pod would be another argument, and nothing be taken from KFP's cache.
        """
        return json.dumps(self.model_dump(mode="json", exclude={"cluster"}), sort_keys=True)

    def training_json(self) -> str:
        """The same without `promotion`: another bound for a champion must not train its challenger again."""
        return json.dumps(self.model_dump(mode="json", exclude={"cluster", "promotion"}), sort_keys=True)


def load_params(path: Path | None = None, *, profile: str | None = None, overrides: Sequence[str] = ()) -> Params:
    """Read a params file and lay `key.path=value` overrides over it; of values in braces take the profile's.

    ValueError in one line.
    """
    path = Path(path or PARAMS_PATH)
    if not path.is_file():
        raise ValueError(f"no parameter file {path} (leave --params out for the built-in one)")
    try:
        values = read_yaml(path)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a table of parameters (start from {PARAMS_PATH})")
    profiles = values.pop("profiles", None)
    if not isinstance(profiles, list) or not profiles:
        raise ValueError(f"{path} has no list of profiles (start from {PARAMS_PATH})")
    values["profile"] = profile or values.get("profile")
    if values["profile"] not in profiles:
        raise ValueError(f"unknown profile {values['profile']!r}{_did_you_mean(str(values['profile']), profiles)}")
    values = _of_profile(values, values["profile"], profiles)
    for override in overrides:
        _set(values, override)
    if not values.get("promotion"):
        raise ValueError(f"parameter 'promotion' is missing in {path} (copy it from {PARAMS_PATH})")
    return parse_params(values)


def parse_params(params: "Params | str | dict[str, Any]") -> Params:
    """Validate resolved parameters given as Params, JSON text or a dict. ValueError in one line."""
    return parse(Params, params)


def parse(kind: type[AnySection], values: AnySection | str | dict[str, Any], name: str = "") -> AnySection:
    """Validate a section, of which `name` is the path. ValueError in one line."""
    if isinstance(values, kind):
        return values
    try:
        return kind.model_validate_json(values) if isinstance(values, str) else kind.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(detail, kind, name) for detail in error.errors())) from error


def _of_profile(values: Any, profile: str, profiles: Sequence[str]) -> Any:
    """Values with the profile's own, or the first profile's, in the place of each table of values by profile."""
    if not isinstance(values, dict):
        return values
    if values.keys() <= set(profiles) and profiles[0] in values:
        return values.get(profile, values[profiles[0]])
    return {name: _of_profile(value, profile, profiles) for name, value in values.items()}


def _set(values: dict[str, Any], override: str) -> None:
    """Apply one `a.b.c=value`, the value read as YAML."""
    key, separator, text = override.partition("=")
    if not separator:
        raise ValueError(f"parameter {override!r} has no value (write name=value, as in train.phase1.epochs=5)")
    *parents, last = key.strip().split(".")
    if not parents and last == "profile":
        raise ValueError("profile is no single parameter (choose it with --profile, or in the parameter file)")
    section = values
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            raise ValueError(f"unknown parameter {key!r}{_did_you_mean(parent, section)}")
        section = section[parent]
    if last not in section:
        raise ValueError(f"unknown parameter {key!r}{_did_you_mean(last, section)}")
    if isinstance(section[last], str) and not text.startswith(("'", '"')):
        section[last] = text  # a pattern may hold what YAML takes for a comment
        return
    try:
        section[last] = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ValueError(f"parameter {key!r}: {text!r} is not valid YAML (close quotes and brackets)") from error


def _explain(error: Any, kind: type[Section], prefix: str) -> str:
    name = ".".join(str(part) for part in ((prefix,) if prefix else ()) + error["loc"])
    if error["type"] == "extra_forbidden":
        section: Any = kind
        for part in error["loc"][:-1]:
            section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
        return f"unknown parameter {name!r}{_did_you_mean(str(error['loc'][-1]), section.model_fields)}"
    if error["type"] == "missing":
        return f"parameter {name!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" or not error["loc"]:  # a check over several parameters names them itself
        return message
    fix = " (put it in quotes)" if error["type"] == "string_type" else ""
    return f"parameter {name!r}: {message}, not {error['input']!r}{fix}"


def _did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, [str(choice) for choice in known], n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(str(choice) for choice in known)})"
