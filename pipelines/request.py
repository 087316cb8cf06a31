"""What a run or a schedule is asked for: compiled pipeline and arguments, checked before anything is sent."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndpnet.config import Params
    from ndpnet.data.versions.version import DataSource

PACKAGES, TRAINING = Path("build/pipelines"), "ndpnet-training"
DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
COMMIT_IN_TAG = re.compile(r"(?:^|[._-])g?([0-9a-f]{7,64})(?=$|[._-])")


class Package:
    """A compiled pipeline in its file, read by KFP's own classes. ValueError: the file has none."""

    def __init__(self, path: Path) -> None:
        from kfp import components

        self.path = Path(path)
        try:
            component = components.load_component_from_text(self.path.read_text(encoding="utf-8"))
            self.name = component.pipeline_spec.pipeline_info.name
            executors = component.pipeline_spec.deployment_spec["executors"]
        except Exception as error:  # whatever KFP stumbles over in a file of something else
            raise ValueError(f"{path} is no compiled pipeline (run `ndpnet pipeline compile`)") from error
        self.images = sorted({executor["container"]["image"] for executor in executors.values()})
        self.parameters: dict[str, Any] = component.component_spec.inputs or {}  # KFP's input specs by name

    def parse_argument(self, name: str, text: str) -> Any:
        """An argument of the command line as its parameter's type: text as it is, anything else as JSON. ValueError."""
        self.check_name(name)
        if (kind := self.parameters[name].type) == "String":
            return text
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"parameter {name} is a {kind}, not {text!r} (write it as JSON)") from error

    def check_name(self, name: str) -> None:
        """Refuse what the pipeline does not take."""
        if name not in self.parameters:
            known = ", ".join(sorted(self.parameters)) or "none"
            raise ValueError(f"pipeline {self.name} has no parameter {name} (it has: {known})")


def check_image(image: str, commit: str) -> None:
    """Refuse an image whose name can come to mean other code: KFP caches by the name, and would serve old results.

    Taken are NAME@sha256:... and a tag that contains the git commit, at least 7 digits of it. ValueError: another one.
    """
    named = COMMIT_IN_TAG.findall(image.rpartition("/")[2].partition(":")[2])
    if not DIGEST.fullmatch(image) and not any(commit.startswith(digits) for digits in named):
        fix = "name it by its digest, NAME@sha256:..., or by a tag that contains the git commit"
        raise ValueError(f"image {image!r} can be moved to other code than that of {commit[:12]} ({fix})")


def load_package(path: Path | None, params: "Params", commit: str) -> Package:
    """A compiled pipeline; without a path the training, compiled now. ValueError: none there, or an image is moved."""
    from ndpnet.config_platform import cluster_of

    if path is None:
        if not cluster_of(params).image:
            fix = "pass -P cluster.image=NAME@sha256:..., what `make image` has pushed"
            raise ValueError(f"cluster.image is empty ({fix})")
        from ndpnet.pipelines.compile import compile_pipeline

        path = compile_pipeline(TRAINING, params, PACKAGES)
    package = Package(path)
    for image in package.images:
        check_image(image, commit)
    return package


def committed(*, allow_dirty: bool) -> str:
    """The commit of these sources. ValueError: there is none, or they differ from it and may not."""
    from ndpnet.tracking.identity import run_identity

    identity = run_identity()
    if not allow_dirty and identity["git_dirty"] != "false":
        raise ValueError("these sources are no clean commit (git commit them, or pass --allow-dirty)")
    return identity["git_commit"]


def arguments_of(
    package: Package,
    params: "Params",
    source: "DataSource",
    *,
    categories: tuple[str, ...],
    only_new_data: bool,
    further: tuple[str, ...],
) -> dict[str, Any]:
    """All arguments, as the pipeline takes them. source: as it was asked for; further: NAME=VALUE. ValueError."""
    from ndpnet.config_platform import cluster_of

    own = {
        "params": params.training_json(),
        "judging_params": params.to_json(),
        "work_dir": cluster_of(params).work_dir,
        "categories": list(categories),
        "only_new_data": only_new_data,
    }
    is_asked = {"categories": bool(categories), "only_new_data": only_new_data}
    arguments = {name: own[name] for name in own if name in package.parameters or is_asked.get(name)}
    if "source" in package.parameters or any(value for name, value in source.named().items() if name != "path"):
        arguments["source"] = _place_of(source)
    for text in further:
        name, equals, value = text.partition("=")
        if not equals or name in own or name == "source":
            raise ValueError(f"-a {text!r} is no NAME=VALUE, or has an option of its own (see --help)")
        arguments[name] = package.parse_argument(name, value)
    for name in arguments:
        package.check_name(name)
    for name, parameter in package.parameters.items():
        if not parameter.optional and name not in arguments:
            raise ValueError(f"pipeline {package.name} needs a value of parameter {name} (pass -a {name}=...)")
    return arguments


def _place_of(source: "DataSource") -> str:
    """Where the data are, as JSON. ValueError: a place that pods cannot reach, or that names a password."""
    from ndpnet.redaction import redact

    place = replace(source, url=source.url or (None if source.prefix else _origin()))
    place.check()
    for what, address in (("git URL", place.url), ("S3 endpoint", place.endpoint_url)):
        if address and "://" in address and redact(address) != address.replace("://git@", "://"):
            raise ValueError(f"the {what} holds a login or a token, which would be stored with the run (leave it out)")
    if place.url is not None and ":" not in place.url:
        raise ValueError(f"pods cannot reach {place.url} (pass --url https://... or --prefix s3://...)")
    if place.manifest is not None and not place.manifest.startswith("s3://"):
        raise ValueError(f"pods cannot read manifest {place.manifest} (upload it, and pass s3://...)")
    return place.to_json()


def _origin() -> str | None:
    """Where this clone is from; None where it is from nowhere."""
    from ndpnet.commands import git

    try:
        return git(".", "remote", "get-url", "origin")
    except ValueError:
        return None
