"""Every command, parameter and name that the documents print is there: what they say cannot rot unseen."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from documents import PAGES, ROOT, Command, code_spans, commands, fences, name_of
from hydra.core.override_parser.overrides_parser import OverridesParser

from ndpnet.cli import main
from ndpnet.config import Section, load_params

SECTIONS = {name for name, value in load_params() if isinstance(value, Section)}
PARAMETER = re.compile(rf"(?:{'|'.join(sorted(SECTIONS))})(?:\.[a-z_0-9]+)+")
OVERRIDE = re.compile(r"""-P '?([a-z_0-9.]+=[^\s`'")]+)""")
DVC_OVERRIDE = re.compile(r"""-S ('ndpnet/params\.yaml:[^'\n]+'|ndpnet/params\.yaml:[^\s`]+)""")
MAKE = re.compile(r"(?<![\w-])make ([a-z-]+)(?=[\s`]|$)")
SCRIPT = re.compile(r"(?<![\w-])(?:python|pytest|bash|sudo)(?: -m \S+)? ((?:benchmarks|deploy|tests)/[\w/.-]+)")

TREES = ("ndpnet", "components", "pipelines", "deploy", "docs", "tests", "benchmarks")
PATH = re.compile(rf"(?:{'|'.join(TREES)})/[\w/.-]*\w/?|(?:{'|'.join(TREES)})/")
NAME = re.compile(r"_?[A-Za-z][A-Za-z_]*")

COMMANDS = [each for page in PAGES for each in commands(page, "ndpnet")]


def parse(command: Command) -> click.Context:
    """What click makes of a command of `ndpnet`. click.UsageError: it refuses it."""
    verb, words = main, list(command.words)
    context = click.Context(main, info_name="ndpnet")
    while isinstance(verb, click.Group) and words and not words[0].startswith("-"):
        name, verb, words = verb.resolve_command(context, words)
        context = click.Context(verb, info_name=name, parent=context)
    try:
        return verb.make_context(context.info_name, words, parent=context.parent)
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        if command.is_whole:
            raise
        return context
    except click.BadParameter:
        if command.is_whole or not any(word.isupper() for word in command.words):  # NAME, VERSION
            raise
        return context
    except click.exceptions.Exit:  # --help
        return context


def test_the_documents_are_read() -> None:
    whole = {" ".join(each.words) for each in COMMANDS if each.is_whole}
    assert len(COMMANDS) > 80
    assert "train-phase1 --prepared prepared --bank bank --out phase1 --work-dir s3://plant/work" in whole
    assert "rollback ndpnet-brick --reason flags every third good tile" in whole  # quoted
    assert any("cluster.image=registry.plant/ndpnet@sha256:..." in each.words for each in COMMANDS)  # of a variable
    assert any(each.words[:1] == ("train-phase1",) and "runtime.devices=8" in each.words for each in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_command_line_takes_it(command: Command) -> None:
    try:
        given = parse(command).params
    except click.UsageError as error:
        pytest.fail(f"{command}: {error.format_message()}")
    if "overrides" in given:
        path = given.get("params_path")
        assert path is None or path == Path("params.yaml")
        load_params(profile=given.get("profile"), overrides=given["overrides"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_parameters_that_it_names_exist(page: Path) -> None:
    text = page.read_text()
    overrides = [each for each in OVERRIDE.findall(text) if each != "name=value"]
    values = [each.strip("'").partition(":")[2] for each in DVC_OVERRIDE.findall(text)]
    for each in OverridesParser.create().parse_overrides(values):  # as DVC reads them: brackets ask for quotes
        overrides.append(f"{each.key_or_group}={each.value()}")
    load_params(overrides=[each for each in overrides if not each.startswith("profile=")])
    for profile in re.findall(r"(?:--profile |params\.yaml:profile=)(\w+)", text):
        load_params(profile=profile)
    known = set(parameters(load_params().model_dump()))
    named = {name for span in code_spans(text) if (name := span.partition(":")[0]) and PARAMETER.fullmatch(name)}
    assert not {name for name in named if not (ROOT / name).exists()} - known


def parameters(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of all parameters and sections, as `train.phase1`."""
    found = []
    for name, value in values.items():
        found += [prefix + name, *(parameters(value, f"{prefix}{name}.") if isinstance(value, dict) else [])]
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_of_make_and_scripts_that_it_calls_exist(page: Path) -> None:
    text = page.read_text()
    code = "\n".join([*(content for _, content in fences(text)), *code_spans(text)])
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(MAKE.findall(code)) <= targets
    assert not [script for script in SCRIPT.findall(code) if not (ROOT / script).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_its_python_imports_exists(page: Path) -> None:
    for content in (content for language, content in fences(page.read_text()) if language == "python"):
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("ndpnet"):
                module = import_module(node.module)
                assert not [each.name for each in node.names if not hasattr(module, each.name)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_that_it_names_exist(page: Path) -> None:
    named = [span for span in code_spans(page.read_text()) if PATH.fullmatch(span)]
    made = ("ndpnet/build.json",)  # by `make image`
    assert not [path for path in named if not (ROOT / path).exists() and path not in made]


def test_names_in_the_recipes_for_adding_something_are_in_the_files_beside_them() -> None:
    recipes = (ROOT / "docs/contributing.md").read_text().partition("## Adding something")[2]
    found = 0
    for line in recipes.splitlines():
        spans = code_spans(line)
        paths = [ROOT / span for span in spans if PATH.fullmatch(span)]
        text = "\n".join(path.read_text() for path in paths if path.is_file())
        names = [span for span in spans if NAME.fullmatch(span)]
        assert not [name for name in names if not re.search(rf"\b{name}\b", text)], line
        found += len(names)
    assert found >= 15
