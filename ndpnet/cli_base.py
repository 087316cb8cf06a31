"""What the verbs share: types of their arguments, and how one that goes on is stopped."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

EXIT_GOOD, EXIT_ERROR, EXIT_DEFECTIVE, EXIT_REVIEW = 0, 1, 3, 4
EXIT_INTERRUPTED = 130  # as a shell has it of Ctrl-C

FolderPath = click.Path(path_type=Path)
Command = Callable[..., Any]


class OutputPath(click.Path):
    """A folder that a step wrote. ValueError names the one nearby, if another was given."""

    def __init__(self, name: str, marker: str) -> None:
        super().__init__(path_type=Path)
        self.folder_name, self.marker = name, marker

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path.is_dir() and not (path / self.marker).exists():
            nearby = (path, path.parent, *sorted(path.iterdir()))
            for folder in (near / self.folder_name for near in nearby):
                if (folder / self.marker).is_file():
                    raise ValueError(f"no {self.marker} in {path} (did you mean {folder}?)")
        return path


PREPARED = OutputPath("prepared", "prepared.json")
BANK = OutputPath("bank", "bank.json")
PHASE1 = OutputPath("phase1", "phase1.json")
MODEL = OutputPath("model", "config.json")
EVALUATION = OutputPath("evaluation", "metrics.json")
WORK_DIR = click.option(
    "--work-dir", default=".work", show_default=True, help="Where checkpoints live: a folder, or s3://BUCKET/PREFIX."
)


def several(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def folder_option(name: str, text: str, kind: click.Path = FolderPath) -> Callable[[Command], Command]:
    """A required path option; kind: of what an earlier step wrote."""
    return click.option(name, type=kind, required=True, help=text)


PACKAGE = folder_option("--model", "Model package, as build/NAME/model.", MODEL)
# what chooses parameters: `params_path`, `profile`, `overrides`
parameter_options = several(
    click.option("--params", "params_path", type=FolderPath, help="Parameter file instead of the built-in one."),
    click.option("--profile", help="Set of parameter values: demo, line or paper."),
    click.option("-P", "overrides", multiple=True, metavar="NAME=VALUE", help="Set a parameter; may be repeated."),
)


def with_params(command: Command) -> Command:
    """Give a verb the options that choose parameters; it receives them as `params`."""

    @parameter_options
    @click.option("--dry-run", is_flag=True, help="Print the step and its parameters, and stop.")
    @wraps(command)
    def wrapped(
        params_path: Path | None, profile: str | None, overrides: tuple[str, ...], dry_run: bool, **kwargs: Any
    ) -> Any:
        from ndpnet.config import load_params

        params = load_params(params_path, profile=profile, overrides=overrides)
        if dry_run:
            import yaml

            arguments = {name: str(value) for name, value in kwargs.items() if value is not None}
            plan = {"step": click.get_current_context().info_name, "arguments": arguments}
            return click.echo(yaml.safe_dump(plan | {"params": params.model_dump(mode="json")}, sort_keys=False))
        return command(params=params, **kwargs)

    return wrapped


def end_by_verdicts(*, num_failed: int, num_defective: int, num_review: int) -> NoReturn:
    """Exit with the code of an inspection."""
    if num_failed:
        sys.exit(EXIT_ERROR)
    sys.exit(EXIT_DEFECTIVE if num_defective else EXIT_REVIEW if num_review else EXIT_GOOD)


def end_interrupted(text: str) -> NoReturn:
    """Say how to go on, and exit."""
    click.echo(f"\n{text}", err=True)
    sys.exit(EXIT_INTERRUPTED)
