"""Parameters that decide nothing of what is computed: the gate's and the cluster's. The core reads none of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ndpnet.config import AnySection, Fraction, Params, Positive, Section, parse, parse_params

Metric = Literal["image_auroc", "pixel_auroc", "pro_auc", "recall"]


class PromotionConfig(Section):
    """What a version must show before it becomes champion."""

    tolerances: Annotated[dict[Metric, Fraction | Literal["auto"]], Field(min_length=1)]
    floors: dict[Metric, Fraction]
    false_alarm_budget: Fraction
    false_alarm_bound: Literal["lower", "point", "upper"]
    max_type_drop: Fraction
    max_latency_ratio: Annotated[float, Field(gt=0)]
    max_export_difference: Fraction

    @model_validator(mode="after")
    def _floors_are_of_chosen_metrics(self) -> "PromotionConfig":
        others = sorted(self.floors.keys() - self.tolerances.keys())
        if others:
            raise ValueError(f"promotion.floors has {others[0]}, which promotion.tolerances does not choose")
        return self


class PodConfig(Section):
    """What a pod asks for, and may take: Kubernetes quantities, as 500m and 16Gi."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    timeout_seconds: Positive


class Toleration(Section):
    """Of a taint of nodes: the fields that are given, as Kubernetes has them."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None


class ClusterConfig(Section):
    """How Kubernetes runs the pipeline: no part of a model's identity."""

    image: str
    work_dir: str
    work_pvc: str
    gpu_resource: str
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    training_pod: PodConfig
    other_pod: PodConfig
    inspection_pod: PodConfig
    inspect_on_gpu: bool
    shm_size: str
    s3_secret: str
    mlflow_secret: str
    webhook_secret: str
    pull_secrets: tuple[str, ...]
    run_as_user: Positive
    num_retries: Annotated[int, Field(ge=0)]
    backoff_seconds: Positive
    parallel_categories: Positive
    parallel_shards: Positive

    @model_validator(mode="after")
    def _volume_has_a_folder(self) -> "ClusterConfig":
        if self.work_pvc and not self.work_dir.startswith("/"):
            fix = "give a folder, or set cluster.work_pvc to ''"
            raise ValueError(f"cluster.work_dir {self.work_dir} is no place to mount cluster.work_pvc at ({fix})")
        return self


def promotion_of(params: Params | str) -> PromotionConfig:
    """What the gate asks for. ValueError: these parameters have no such section, or a wrong one."""
    return _section(PromotionConfig, params, "promotion")


def cluster_of(params: Params | str) -> ClusterConfig:
    """How Kubernetes runs the pipeline. ValueError: these parameters have no such section, or a wrong one."""
    return _section(ClusterConfig, params, "cluster")


def _section(kind: type[AnySection], params: Params | str, name: str) -> AnySection:
    values: dict[str, Any] | None = getattr(parse_params(params), name)
    if values is None:
        raise ValueError(f"these parameters have no section {name} (take it from ndpnet/params.yaml)")
    return parse(kind, values, name)
