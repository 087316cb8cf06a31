"""A compiled pipeline in its file: which images it runs, and which arguments it takes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Package:
    """A compiled pipeline, read by KFP's own classes. ValueError: the file has none."""

    def __init__(self, path: Path) -> None:
        from kfp import components

        self.path = Path(path)
        try:
            self._component = components.load_component_from_text(self.path.read_text(encoding="utf-8"))
            self.name = self._component.pipeline_spec.pipeline_info.name
            executors = self._component.pipeline_spec.deployment_spec["executors"]
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror} (run `ndpnet pipeline compile`)") from error
        except Exception as error:  # whatever KFP stumbles over in a file of something else
            raise ValueError(f"{path} is no compiled pipeline (run `ndpnet pipeline compile`)") from error
        self.images = sorted({executor["container"]["image"] for executor in executors.values()})

    @property
    def parameters(self) -> dict[str, Any]:
        """What it takes, as KFP's input specs by name."""
        return self._component.component_spec.inputs or {}

    def parse_argument(self, name: str, text: str) -> Any:
        """An argument of the command line as its parameter's type: text as it is, anything else as JSON. ValueError."""
        kind = self._kind(name)
        if kind == "String":
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"parameter {name} is a {kind}, not {text!r} (write it as JSON)") from error

    def check_arguments(self, arguments: Iterable[str]) -> None:
        """Refuse names that the pipeline does not take, or lacks. ValueError. Kubeflow itself checks the types."""
        for name in arguments:
            self._kind(name)
        for name, parameter in self.parameters.items():
            if not parameter.optional and name not in arguments:
                raise ValueError(f"pipeline {self.name} needs a value of parameter {name} (pass -a {name}=...)")

    def _kind(self, name: str) -> str:
        if name not in self.parameters:
            known = ", ".join(sorted(self.parameters)) or "none"
            raise ValueError(f"pipeline {self.name} has no parameter {name} (it has: {known})")
        return self.parameters[name].type
