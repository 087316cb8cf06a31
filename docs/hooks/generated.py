"""Pages made from the code while the site is built: the command line from click, the parameters from params.yaml."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
PARAMETER = re.compile(r"( *)([\w-]+):(?: +(.*?))?(?:(?<!\S)# ?(.*))?$")


def on_files(files: "Files", config: Any) -> "Files":
    """Add both pages."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "cli.md", content=command_page()))
    files.append(File.generated(config, "parameters.md", content=parameter_page(ROOT / "ndpnet/params.yaml")))
    return files


def command_page() -> str:
    """Every verb with its arguments and options, in the order of `ndpnet --help`."""
    sys.path.insert(0, str(ROOT))
    from ndpnet.cli import SECTIONS, main

    context = click.Context(main)
    parts = ["# Command line", "As `ndpnet VERB --help` says it."]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        verbs = {name: main.get_command(context, name) for name in names}
        parts += [text for name, verb in verbs.items() for text in _describe(f"ndpnet {name}", verb)]
    return "\n\n".join(parts) + "\n"


def _describe(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"### {path}"
    yield "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _describe(f"{path} {name}", command.commands[name])
        return
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield f"```\n{usage}\n```"
    rows = [param.get_help_record(context) for param in command.params]
    lines = [f"| `{names}` | {_cell(text)} |" for names, text in filter(None, rows) if text]
    if lines:
        yield "\n".join(["| option | |", "|---|---|", *lines])


def parameter_page(path: Path) -> str:
    """A table per section of params.yaml, with the comments as meanings."""
    parts = [
        "# Parameters",
        "From [ndpnet/params.yaml](../ndpnet/params.yaml), where each stands once. `-P NAME=VALUE` sets one for a run, "
        "`--profile` says which of the values in braces counts, `demo`'s where it has none of its own.",
    ]
    comments, prefix, rows = [], [], []
    for line in path.read_text().splitlines():
        if line.strip().startswith("#"):
            comments.append(line.strip("# "))
            continue
        found = PARAMETER.match(line)
        if not found:
            comments = []
            continue
        indent, name, value, remark = found.groups()
        prefix = [*prefix[: len(indent) // 2], name]
        meaning = " ".join([*comments, remark or ""]).strip()
        comments = []
        rows.append((".".join(prefix), (value or "").strip(), meaning))
    single = [row for row in rows if "." not in row[0] and row[1]]
    sections = {name: meaning for name, value, meaning in rows if "." not in name and not value}
    for title, meaning in {"At the top": "", **sections}.items():
        own = [row for row in rows if row[0].startswith(f"{title}.") and row[1]] if title in sections else single
        parts.append(f"## {title}")
        parts += [meaning[:1].upper() + meaning[1:] + "."] if meaning else []
        lines = [f"| `{name}` | `{value}` | {_cell(remark)} |" for name, value, remark in own]
        parts.append("\n".join(["| parameter | default | meaning |", "|---|---|---|", *lines]))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
