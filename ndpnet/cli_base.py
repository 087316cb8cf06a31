"""What the verbs share: types of their arguments, and how one that goes on is stopped."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

EXIT_INTERRUPTED = 130  # as a shell has it of Ctrl-C

FolderPath = click.Path(path_type=Path)


class PackagePath(click.Path):
    """A model package. ValueError names the package if the folder above it is given."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not (path / "config.json").exists() and (path / "model" / "config.json").is_file():
            raise ValueError(f"no model package in {path} (did you mean {path / 'model'}?)")
        return path


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that choose parameters: `params_path`, `profile`, `overrides`."""
    options = [
        click.option("--params", "params_path", type=FolderPath, help="Parameter file instead of the built-in one."),
        click.option("--profile", help="Set of parameter values: demo, line or paper."),
        click.option("-P", "overrides", multiple=True, metavar="NAME=VALUE", help="Set a parameter; may be repeated."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


class Resumable(click.Command):
    """A verb whose same command goes on where Ctrl-C has stopped it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            end_interrupted("stopped: the same command goes on where this one was")


def end_interrupted(text: str) -> None:
    """Say how to go on, and exit."""
    click.echo(f"\n{text}", err=True)
    sys.exit(EXIT_INTERRUPTED)
