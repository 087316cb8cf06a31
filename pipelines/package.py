"""A compiled pipeline: what it asks of the cluster and of the one who runs it, read from the file itself."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

PYTHON_TYPES = {
    "STRING": str,
    "BOOLEAN": bool,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "LIST": list,
    "STRUCT": dict,
}


@dataclass(frozen=True)
class Pod:
    """What the pods of one task ask for. Quantities as Kubernetes writes them, "" where nothing is asked."""

    task: str
    image: str
    cpu: str = ""
    memory: str = ""
    gpu_type: str = ""
    num_gpus: int = 0
    node_labels: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    secrets: Mapping[str, frozenset[str]] = field(default_factory=dict)  # name -> keys that must be in it
    claims: frozenset[str] = frozenset()  # persistent volumes
    unknown: tuple[str, ...] = ()  # what is known only when it runs


class Package:
    """A compiled pipeline in a YAML file of one or two documents."""

    def __init__(self, path: Path, spec: dict[str, Any], platform: dict[str, Any]) -> None:
        self.path, self.spec, self.platform = Path(path), spec, platform

    @classmethod
    def load(cls, path: Path) -> "Package":
        """Read one. ValueError: it is no compiled pipeline."""
        import yaml

        try:
            documents = [each for each in yaml.safe_load_all(Path(path).read_text(encoding="utf-8")) if each]
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"cannot read {path}: {type(error).__name__} (run `ndpnet pipeline compile`)") from error
        is_spec = documents and isinstance(documents[0], dict) and {"pipelineInfo", "root"} <= documents[0].keys()
        if not is_spec:
            raise ValueError(f"{path} is no compiled pipeline (run `ndpnet pipeline compile`)")
        return cls(path, documents[0], documents[1] if len(documents) > 1 else {})

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return self.spec["pipelineInfo"]["name"]

    @cached_property
    def messages(self) -> "tuple[PipelineSpec, PlatformSpec]":
        """KFP's own form, in which two spellings of the same pipeline are equal."""
        return to_messages(self.spec, self.platform)

    @property
    def images(self) -> list[str]:
        """Every image it runs, sorted."""
        return sorted({pod.image for pod in self.pods})

    @cached_property
    def pods(self) -> list[Pod]:
        """What each of its tasks asks of the cluster."""
        executors = self.spec.get("deploymentSpec", {}).get("executors", {})
        configs = self.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
        configs = configs.get("executors", {})
        return [
            _pod(label, executor["container"], configs.get(label, {}))
            for label, executor in executors.items()
            if "container" in executor
        ]

    def parse_argument(self, name: str, text: str) -> Any:
        """An argument of the command line as its parameter's type: text as it is, anything else as JSON."""
        if self._kind(name) == "STRING":
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"parameter {name} is a {self._kind(name)}, not {text!r} (write it as JSON)") from error

    def check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments that the pipeline does not take, or that it lacks. ValueError names them."""
        for name, value in arguments.items():
            kind = self._kind(name)
            is_right = isinstance(value, PYTHON_TYPES.get(kind, object))
            if not is_right or (isinstance(value, bool) and kind != "BOOLEAN"):
                raise ValueError(f"parameter {name} of pipeline {self.name} is a {kind}, not {value!r}")
        declared = self.parameters
        missing = sorted(
            name for name, each in declared.items() if not each.get("isOptional") and name not in arguments
        )
        if missing:
            raise ValueError(f"pipeline {self.name} needs a value of parameter {missing[0]} (pass -a {missing[0]}=...)")

    @property
    def parameters(self) -> dict[str, Any]:
        """What it takes: name -> parameterType, defaultValue, isOptional."""
        return self.spec["root"].get("inputDefinitions", {}).get("parameters", {})

    def _kind(self, name: str) -> str:
        if name not in self.parameters:
            known = ", ".join(sorted(self.parameters)) or "none"
            raise ValueError(f"pipeline {self.name} has no parameter {name} (it has: {known})")
        return self.parameters[name]["parameterType"]


def to_messages(spec: Mapping[str, Any], platform: Mapping[str, Any]) -> "tuple[PipelineSpec, PlatformSpec]":
    """Two documents as KFP's own messages; fields of a newer KFP are dropped."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    messages = (pipeline_spec_pb2.PipelineSpec(), pipeline_spec_pb2.PlatformSpec())
    for content, message in zip((spec, platform), messages, strict=True):
        json_format.ParseDict(json.loads(json.dumps(content)), message, ignore_unknown_fields=True)
    return messages


def _pod(label: str, container: Mapping[str, Any], config: Mapping[str, Any]) -> Pod:
    resources = container.get("resources", {})
    accelerator = resources.get("accelerator", {})
    count = str(accelerator.get("resourceCount") or accelerator.get("count") or "0")
    unknown = list(_unknown(config))
    if not count.isdigit():
        unknown.append("number of GPUs")
    return Pod(
        task=label.removeprefix("exec-"),
        image=container["image"],
        cpu=str(resources.get("resourceCpuRequest") or resources.get("resourceCpuLimit") or ""),
        memory=str(resources.get("resourceMemoryRequest") or resources.get("resourceMemoryLimit") or ""),
        gpu_type=accelerator.get("resourceType") or accelerator.get("type") or "",
        num_gpus=int(count) if count.isdigit() else 0,
        node_labels=config.get("nodeSelector", {}).get("labels", {}),
        tolerations=tuple(each for each in config.get("tolerations", ()) if "tolerationJson" not in each),
        secrets=_secrets(config),
        claims=frozenset(filter(None, (_constant(each, "pvcNameParameter") for each in config.get("pvcMount", ())))),
        unknown=tuple(unknown),
    )


def _secrets(config: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for kind in ("secretAsEnv", "secretAsVolume", "imagePullSecret"):
        for each in config.get(kind, ()):
            name = _constant(each, "secretNameParameter")
            if name and not each.get("optional"):
                keys = {entry["secretKey"] for entry in each.get("keyToEnv", ())}
                found.setdefault(name, set()).update(keys)
    return {name: frozenset(keys) for name, keys in found.items()}


def _unknown(config: Mapping[str, Any]) -> Iterator[str]:
    """What the tasks before, or the arguments, say only when it runs."""
    for kind, name in (("secretAsEnv", "secretNameParameter"), ("secretAsVolume", "secretNameParameter")):
        if any(not _constant(each, name) for each in config.get(kind, ())):
            yield "name of a secret"
    if any(not _constant(each, "pvcNameParameter") for each in config.get("pvcMount", ())):
        yield "name of a volume"
    if "nodeSelectorJson" in config.get("nodeSelector", {}):
        yield "labels of nodes"


def _constant(entry: Mapping[str, Any], parameter: str) -> str:
    """A name that stands in the package; "" where it comes when it runs."""
    plain = entry.get("secretName") or entry.get("constant")
    return plain or entry.get(parameter, {}).get("runtimeValue", {}).get("constant", "")
