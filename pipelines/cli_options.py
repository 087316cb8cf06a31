"""Options that several verbs for a cluster have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FolderPath = click.Path(path_type=Path)
EXPERIMENT = "ndpnet"

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def options(*decorators: Decorator) -> Decorator:
    """Several options as one decorator."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def with_params(command: Command) -> Command:
    """The options that choose parameters, as of every step."""
    from ndpnet.cli import with_params

    return with_params(command)


SERVER = options(
    click.option("--host", help="Kubeflow Pipelines, as https://HOST/pipeline; else KF_PIPELINES_ENDPOINT."),
    click.option("--namespace", help="Of a server for many users, else of the pods; else KFP_NAMESPACE."),
)
PACKAGE = click.option(
    "--package", "package_path", type=FolderPath, help="Compiled pipeline; compiled now if left out."
)
EXPERIMENT_OPTION = click.option("--experiment", default=EXPERIMENT, show_default=True, help="Where runs are listed.")
EVEN_IF_ACTIVE = click.option("--even-if-active", is_flag=True, help="Although a run of it is active: that goes on.")
WORK = options(
    SERVER,
    PACKAGE,
    EXPERIMENT_OPTION,
    click.option("--category", "categories", multiple=True, help="Which of them; all that are pinned if left out."),
    click.option("--url", help="Git repository that pins the data; that of this clone if left out."),
    click.option("--revision", help="Branch, tag or commit there; its default branch if left out."),
    click.option("--path", default="data", show_default=True, help="The pinned folder there."),
    click.option("--prefix", metavar="S3_URL", help="Instead of a repository: where the files lie."),
    click.option("--manifest", metavar="S3_URL", help="What `data manifest` wrote: which of them to take."),
    click.option("--endpoint-url", help="S3 server other than AWS, as http://minio:9000."),
    click.option("-a", "further", multiple=True, metavar="NAME=VALUE", help="Further argument of the pipeline."),
    click.option("--version-name", help="Of the uploaded pipeline; the git commit if left out."),
    click.option("--service-account", default="", help="Of Kubernetes, that the pods run as."),
    click.option("--skip-preflight", is_flag=True, help="Start although a check fails."),
)
