"""What a run or a schedule is asked for: package and arguments, checked before anything is sent."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ndpnet.pipelines.image import check_image
from ndpnet.pipelines.package import Package

if TYPE_CHECKING:
    from ndpnet.config import Params

PACKAGES = Path("build/pipelines")


def load_package(path: Path | None, params: "Params", commit: str) -> Package:
    """A compiled pipeline; without a path the training, compiled now. ValueError: none there, or an image is moved."""
    from ndpnet.config_platform import cluster_of

    if path is None:
        if not cluster_of(params).image:
            fix = "pass -P cluster.image=NAME@sha256:..., what `make image` has pushed"
            raise ValueError(f"cluster.image is empty ({fix})")
        from ndpnet.pipelines.compile import compile_training

        path = compile_training(params, PACKAGES)
    package = Package(path)
    for image in package.images:
        check_image(image, commit)
    return package


def committed(*, allow_dirty: bool) -> str:
    """The commit of these sources. ValueError: there is none, or they differ from it and may not."""
    from ndpnet.tracking.identity import run_identity

    identity = run_identity()
    if not allow_dirty and identity["git_commit"] == "unknown":
        raise ValueError("no git commit names these sources (work in a clone, or pass --allow-dirty)")
    if not allow_dirty and identity["git_dirty"] != "false":
        raise ValueError("there are changes that are not committed (git commit them, or pass --allow-dirty)")
    return identity["git_commit"]


def arguments_of(
    package: Package,
    params: "Params",
    source: dict[str, str | None],
    *,
    categories: tuple[str, ...],
    only_new_data: bool,
    further: tuple[str, ...],
) -> dict[str, Any]:
    """All arguments, as the pipeline takes them. source: of the data; further: NAME=VALUE. ValueError."""
    from ndpnet.config_platform import cluster_of

    own = {
        "params": params.training_json(),
        "judging_params": params.to_json(),
        "work_dir": cluster_of(params).work_dir,
    }
    own |= {"categories": list(categories), "only_new_data": only_new_data}
    is_asked = {"categories": bool(categories), "only_new_data": only_new_data}
    arguments = {name: own[name] for name in own if name in package.parameters or is_asked.get(name)}
    has_source = "url" in package.parameters  # another pipeline may mean something else by prefix
    if has_source or any(value for name, value in source.items() if name != "path"):
        arguments |= _source_arguments(source)
    for text in further:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"-a {text!r} is no NAME=VALUE")
        if name in own or (has_source and name in source):
            raise ValueError(f"-a {name} has an option of its own (see --help)")
        arguments[name] = package.parse_argument(name, value)
    package.check_arguments(arguments)
    return arguments


def _source_arguments(source: dict[str, str | None]) -> dict[str, str]:
    """Where the data are. ValueError: a place that pods cannot reach, or that names a password."""
    from ndpnet.data.versions.source import DataSource

    place = DataSource.given(**source | {"url": source["url"] or (None if source["prefix"] else _origin())})
    place.check()
    if place.url is not None:
        _check_url(place.url)
    if place.manifest is not None and not place.manifest.startswith("s3://"):
        raise ValueError(f"pods cannot read manifest {place.manifest} (upload it, and pass s3://...)")
    return place.named()


def _check_url(url: str) -> None:
    if "://" in url and (urlsplit(url).password or urlsplit(url).username not in (None, "git")):
        raise ValueError("the git URL holds a login, which would be stored with the run (use git's credentials)")
    if "://" not in url and ":" not in url:
        raise ValueError(f"pods cannot reach {url} (pass --url https://... or --prefix s3://...)")


def _origin() -> str | None:
    """Where this clone is from; None where it is from nowhere."""
    from ndpnet.commands import git

    try:
        return git(".", "remote", "get-url", "origin")
    except ValueError:
        return None
