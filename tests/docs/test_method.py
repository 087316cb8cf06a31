"""The table of equations in docs/method.md: all of them, each where the code cites it."""

import ast
import re
from pathlib import Path

import pytest
from documents import ROOT

ROW = re.compile(r"^\| ([\d, ]+) \| [^|]+ \| \[`([\w.]+)`\]\(\.\./([\w/]+\.py)\) \|$", re.MULTILINE)
CITED = re.compile(r"Eq\. (\d+(?:(?:-|, )\d+)*)")
ROWS = [
    pytest.param([int(number) for number in numbers.split(",")], name, path, id=name)
    for numbers, name, path in ROW.findall((ROOT / "docs/method.md").read_text())
]


def docstrings(path: Path, names: list[str]) -> list[str]:
    """Of a module and of what is defined in it, from the outside in. StopIteration: it is not there."""
    node: ast.AST = ast.parse(path.read_text())
    found = [ast.get_docstring(node) or ""]
    for name in names:
        node = next(each for each in node.body if getattr(each, "name", "") == name)
        found.append(ast.get_docstring(node) or "")
    return found


def cited(text: str) -> set[int]:
    """Numbers of the equations that a docstring cites, as `Eq. 2, 9` or `Eq. 3-5`."""
    numbers: set[int] = set()
    for citation in CITED.findall(text):
        for part in citation.split(", "):
            first, _, last = part.partition("-")
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def test_every_equation_has_its_place() -> None:
    assert sorted(number for row in ROWS for number in row.values[0]) == list(range(1, 18))


@pytest.mark.parametrize(("numbers", "name", "path"), ROWS)
def test_the_code_cites_its_equation(numbers: list[int], name: str, path: str) -> None:
    module = path.removesuffix(".py").replace("/", ".")
    assert name.startswith(f"{module}.")
    texts = docstrings(ROOT / path, name.removeprefix(f"{module}.").split("."))
    assert set(numbers) <= cited(" ".join(texts))
