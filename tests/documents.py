"""What the documents print: fenced blocks, code spans and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import ndpnet

ROOT = Path(ndpnet.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
ASSIGNMENT = re.compile(r'^(?:export )?(\w+)="([^"]*)"', re.MULTILINE)
OPERATORS = set("();<>|&")


@dataclass(frozen=True)
class Command:
    """Words of one command, as a shell would hand them on."""

    page: str
    words: tuple[str, ...]
    is_whole: bool  # from a fenced block: a code span may name a verb alone

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def name_of(page: Path) -> str:
    """A page by its path in the repository."""
    return page.relative_to(ROOT).as_posix()


def fences(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return FENCE.findall(text)


def code_spans(text: str) -> list[str]:
    """Code in running text and in tables."""
    return [span.strip() for span in CODE_SPAN.findall(FENCE.sub("", text))]


def commands(page: Path, program: str) -> list[Command]:
    """All calls of a program that a page prints, also behind another one, as in `docker run IMAGE ndpnet ...`."""
    text = page.read_text()
    variables = dict(ASSIGNMENT.findall(text))
    blocks = [content.replace("\\\n", " ") for language, content in fences(text) if language in ("", "sh")]
    lines = [(line, True) for block in blocks for line in block.splitlines()]
    lines += [(span, False) for span in code_spans(text)]
    found = []
    for line, is_whole in lines:
        if re.search(rf"(?<![\w/.-]){program} ", line):
            parts = [part for part in split_commands(with_values(line, variables)) if part[:1] != ["kubectl"]]
            calls = [part[part.index(program) + 1 :] for part in parts if program in part]
            found += [Command(name_of(page), tuple(call), is_whole) for call in calls]
    return found


def with_values(line: str, variables: dict[str, str]) -> str:
    """The line with the page's own shell variables filled in."""
    for _ in variables:  # one may be made of another
        line = re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), line)
    return line


def split_commands(line: str) -> list[list[str]]:
    """Words of each command of a shell line, without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(OPERATORS))
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= OPERATORS:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts
