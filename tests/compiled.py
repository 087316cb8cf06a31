"""A compiled pipeline, read back."""

from pathlib import Path
from typing import Any

import yaml

IMAGE = f"registry.example/ndpnet@sha256:{'a' * 64}"
SECRETS = {
    "ndpnet-s3": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"],
    "ndpnet-mlflow": ["MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"],
}


class Compiled:
    """The two documents of a compiled pipeline."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
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

    def edges(self) -> dict[str, dict[str, list[str]]]:
        """Of each graph its tasks, with the tasks that each waits for."""
        return {
            graph: {name: sorted(task.get("dependentTasks", [])) for name, task in tasks.items()}
            for graph, tasks in self.graphs().items()
        }

    def cached_tasks(self) -> dict[str, bool]:
        """Whether KFP may take a task from its cache, of those that run something."""
        return {
            name: task.get("cachingOptions", {}).get("enableCache", False)
            for tasks in self.graphs().values()
            for name, task in tasks.items()
            if self.pipeline["components"][task["componentRef"]["name"]].get("executorLabel")
        }

    def retries(self) -> dict[str, tuple[int, str, float] | None]:
        """Of each task that runs something: how often it is tried again, the first pause and its growth."""
        return {
            name: (policy["maxRetryCount"], policy["backoffDuration"], policy["backoffFactor"]) if policy else None
            for tasks in self.graphs().values()
            for name, task in tasks.items()
            if self.pipeline["components"][task["componentRef"]["name"]].get("executorLabel")
            for policy in [task.get("retryPolicy")]
        }
