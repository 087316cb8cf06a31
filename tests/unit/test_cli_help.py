"""What the command line says of itself: every verb is listed, every option has a sentence."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ndpnet.cli import RESUMABLE, SECTIONS, main
from ndpnet.cli_base import EXIT_INTERRUPTED


def commands_of(command: click.Command, path: str = "ndpnet") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands_of(command.get_command(context, name), f"{path} {name}")


COMMANDS = dict(commands_of(main))


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_and_its_options_have_a_sentence(path: str) -> None:
    command = COMMANDS[path]
    sentences = {"the command": command.get_short_help_str(1000)}
    sentences |= {param.name: param.help or "" for param in command.params if isinstance(param, click.Option)}
    assert not [name for name, text in sentences.items() if len(text) < 8]


def test_help_lists_every_verb_once_with_its_whole_sentence() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == main.list_commands(click.Context(main))
    text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    for name in main.list_commands(click.Context(main)):
        assert f"{name} {COMMANDS[f'ndpnet {name}'].get_short_help_str(1000)}" in text


def test_a_library_that_is_not_installed_is_one_line_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def needs_more() -> None:
        raise ModuleNotFoundError("No module named 'kfp'", name="kfp")

    monkeypatch.setitem(main.commands, "needs-more", click.Command("needs-more", callback=needs_more))
    result = CliRunner().invoke(main, ["needs-more"])
    assert result.stderr == (
        "Error: kfp is not installed (pip install 'ndpnet[train]'; for Kubeflow 'ndpnet[pipeline]')\n"
    )


def test_ctrl_c_says_that_the_same_command_goes_on_only_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    assert set(RESUMABLE) <= set(main.list_commands(click.Context(main)))
    resumed = dict.fromkeys(RESUMABLE, "stopped: the same command goes on where this one was")
    for name, text in (resumed | {"prepare": "stopped", "evaluate": "stopped"}).items():
        monkeypatch.setitem(main.commands, name, click.Command(name, callback=stopped))
        result = CliRunner().invoke(main, [name])
        assert (result.exit_code, result.stderr) == (EXIT_INTERRUPTED, f"\n{text}\n")
