"""A compiled pipeline, read back."""

from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict
from kfp import components
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from ndpnet.config import load_params
from ndpnet.pipelines.compile import compile_pipeline

IMAGE = f"registry.example/ndpnet@sha256:{'a' * 64}"
SECRETS = {
    "ndpnet-s3": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"],
    "ndpnet-mlflow": ["MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"],
}


class Compiled:
    """The two documents of a compiled pipeline, ndpnet-NAME, with the image and other parameters."""

    def __init__(self, name: str, folder: Path, *overrides: str) -> None:
        params = load_params(overrides=[f"cluster.image={IMAGE}", *overrides])
        self.path = compile_pipeline(f"ndpnet-{name}", params, folder)
        self.text = self.path.read_text()
        self.pipeline, platforms = yaml.safe_load_all(self.text)
        self.platforms = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.executors = self.pipeline["deploymentSpec"]["executors"]

    def graphs(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Each graph's tasks."""
        found = {"root": self.pipeline["root"]["dag"]["tasks"]}
        return found | {
            name: component["dag"]["tasks"]
            for name, component in self.pipeline["components"].items()
            if "dag" in component
        }

    def working_tasks(self) -> dict[str, dict[str, Any]]:
        """Tasks of all graphs that run something themselves."""
        return {
            name: task
            for tasks in self.graphs().values()
            for name, task in tasks.items()
            if self.pipeline["components"][task["componentRef"]["name"]].get("executorLabel")
        }

    def cached_tasks(self) -> dict[str, bool]:
        """Whether KFP may take a task from its cache."""
        return {
            name: task.get("cachingOptions", {}).get("enableCache", False)
            for name, task in self.working_tasks().items()
        }

    def retries(self) -> dict[str, tuple[int, str, float] | None]:
        """Of each task: how often it is tried again, the first pause and its growth."""
        policies = {name: task.get("retryPolicy") for name, task in self.working_tasks().items()}
        names = ("maxRetryCount", "backoffDuration", "backoffFactor")
        return {name: tuple(policy[each] for each in names) if policy else None for name, policy in policies.items()}

    def secrets(self) -> dict[str, dict[str, list[str]]]:
        """Of each executor the variables that it gets, by the secret that holds them."""
        return {
            name: {each["secretName"]: [key["envVar"] for key in each["keyToEnv"]] for each in config["secretAsEnv"]}
            for name, config in self.platforms.items()
        }

    def inputs_by_kfp(self) -> set[str]:
        """The parameters that KFP reads from the file; its own classes take all of it."""
        spec = ParseDict(self.pipeline, PipelineSpec())
        assert spec.pipeline_info.name == self.path.stem
        assert len(spec.components) == len(self.pipeline["components"])
        for config in self.platforms.values():
            assert ParseDict(config, KubernetesExecutorConfig()).HasField("security_context")
        return set(components.load_component_from_file(str(self.path)).component_spec.inputs)
