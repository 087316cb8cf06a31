"""What components and pipelines import: KFP reads their modules in places where nothing else is installed."""

import ast
import sys
from pathlib import Path

import pytest
from documents import ROOT

SOURCES = sorted([*(ROOT / "components").glob("*.py"), *(ROOT / "pipelines").glob("*.py")])
ALLOWED = {"kfp", "ndpnet.components", "ndpnet.pipelines", *sys.stdlib_module_names}
MAX_STATEMENTS = 8  # of a component's body, its docstring and imports among them


def imported_at_module_scope(tree: ast.Module) -> set[str]:
    """Names that importing the file imports, top-level or directly in ndpnet; not those under `if TYPE_CHECKING`."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {_short(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(_short(node.module))
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += list(ast.iter_child_nodes(node))
    return found


def _short(name: str) -> str:
    return ".".join(name.split(".")[: 2 if name.startswith("ndpnet.") else 1])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_module_scope_imports_the_standard_library_and_kfp_alone(path: Path) -> None:
    tree = ast.parse(path.read_text())
    others = imported_at_module_scope(tree) - ALLOWED
    assert others <= ({"click", "ndpnet.cli", "ndpnet.cli_base"} if path.name.startswith("cli") else set())
    assert "from __future__ import annotations" not in path.read_text()  # KFP's compiler would see strings


def test_the_guard_sees_what_it_guards_against() -> None:
    lines = ("import torch", "from ndpnet import steps", "if TYPE_CHECKING:", "    import numpy")
    tree = ast.parse("\n".join([*lines, "try:", "    from mlflow import x", "finally:", "    pass"]))
    assert imported_at_module_scope(tree) == {"torch", "ndpnet", "mlflow"}
    assert len(SOURCES) > 15


def test_a_components_body_is_an_import_and_a_call() -> None:
    bodies = {}
    for path in (ROOT / "components").glob("*.py"):
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        for function in functions:
            if any(getattr(decorator, "id", "") == "component" for decorator in function.decorator_list):
                assert function.name not in bodies
                bodies[function.name] = sum(isinstance(each, ast.stmt) for each in ast.walk(function)) - 1
    steps = {"version_data", "prepare", "synthesize", "train_phase1", "train_phase2", "evaluate", "register", "promote"}
    assert steps <= bodies.keys()
    assert max(bodies.values()) <= MAX_STATEMENTS, bodies
