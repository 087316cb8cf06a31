"""Options that several verbs for a cluster have."""

from collections.abc import Callable
from typing import Any

import click

from ndpnet.cli import FolderPath

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


SERVER = options(
    click.option("--host", help="Kubeflow Pipelines, as https://HOST/pipeline; else KF_PIPELINES_ENDPOINT."),
    click.option("--namespace", help="Of a server for many users, else of the pods; else KFP_NAMESPACE."),
)
PACKAGE = click.option("--package", "package_path", type=FolderPath, help="Compiled pipeline, from `pipeline compile`.")
EXPERIMENT_OPTION = click.option("--experiment", default=EXPERIMENT, show_default=True, help="Where runs are listed.")
EVEN_IF_ACTIVE = click.option("--even-if-active", is_flag=True, help="Although a run of it is active: that goes on.")
WORK = options(
    SERVER,
    PACKAGE,
    EXPERIMENT_OPTION,
    click.option("--revision", default="main", show_default=True, help="Branch, tag or commit whose data are taken."),
    click.option("-a", "arguments", multiple=True, metavar="NAME=VALUE", help="Further argument of the pipeline."),
    click.option("--version-name", help="Of the uploaded pipeline; the git commit if left out."),
    click.option("--service-account", default="", help="Of Kubernetes, that the pods run as."),
    click.option("--skip-preflight", is_flag=True, help="Start although a check fails."),
)
