"""The pages that the site makes from the code: every verb, every option, every parameter is there."""

from typing import Any

import click
from scripts import load_script

from ndpnet.cli import main
from ndpnet.config import PARAMS_PATH, load_params

GENERATED = load_script("docs/hooks/generated.py")
IN_ONE_LINE = ("node_selector", "tolerances", "floors")  # of params.yaml


def options_of(command: click.Command, path: str) -> list[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        verbs = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        return [each for name, verb in verbs for each in options_of(verb, f"{path} {name}")]
    return [f"### {path}\n", *(max(param.opts, key=len) for param in command.params if isinstance(param, click.Option))]


def test_every_verb_and_option_is_on_the_page() -> None:
    page = GENERATED.command_page()
    wanted = options_of(main, "ndpnet")
    assert len(wanted) > 100
    assert [each for each in wanted if each not in page] == []


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        is_section = isinstance(value, dict) and name not in IN_ONE_LINE and not name.endswith("_pod")
        found += leaves(value, f"{prefix}{name}.") if is_section else [f"| `{prefix}{name}` |"]
    return found


def test_every_parameter_is_on_the_page_with_its_meaning() -> None:
    page = GENERATED.parameter_page(PARAMS_PATH)
    assert [each for each in leaves(load_params().model_dump()) if each not in page] == []
    assert "| `train.batch_size` | `8` | over all devices |" in page
    assert "## evaluation\n" in page
