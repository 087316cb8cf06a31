"""Which files of the library a function needs: its names followed by ast, from symbol to symbol, and no further.

A class counts as a whole; a module's statements with an effect count as soon as anything of it is needed.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from documents import ROOT

PACKAGE_DIR = ROOT / "ndpnet"
EFFECTS = (ast.Expr, ast.For, ast.If, ast.Try, ast.With, ast.AugAssign)

Bound = tuple[str, str]  # module, symbol; "" is the module itself


@dataclass
class Module:
    """One file: what its names are bound to."""

    path: Path
    definitions: dict[str, list[ast.AST]] = field(default_factory=dict)
    imports: dict[str, Bound] = field(default_factory=dict)
    effects: list[ast.AST] = field(default_factory=list)


def files_of(module: str, symbol: str) -> set[str]:
    """Files, relative to the repository, that a function of a module needs, its own file too."""
    graph = Graph()
    graph.follow((module, symbol))
    return {path.relative_to(ROOT).as_posix() for path in graph.files}


class Graph:
    """Symbols that were reached, and the files that they lie in."""

    def __init__(self) -> None:
        self.files: set[Path] = set()
        self._seen: set[Bound] = set()

    def follow(self, bound: Bound) -> None:
        """Reach a symbol and all that it uses."""
        module_name, symbol = bound
        path = _path_of(module_name)
        if bound in self._seen or path is None:
            return
        self._seen.add(bound)
        module = _read(path)
        if symbol in module.imports:
            self.files.add(path)
            self.follow(module.imports[symbol])
            return
        if symbol and symbol not in module.definitions and _path_of(f"{module_name}.{symbol}") is not None:
            return  # a submodule by itself does nothing
        self.files.add(path)
        # a module handed on as it is, and a name made at run time (__getattr__), may need everything
        known = module.definitions.get(symbol) or [each for nodes in module.definitions.values() for each in nodes]
        for node in [*known, *module.effects]:
            self._follow_uses(node, module_name, module)

    def _follow_uses(self, node: ast.AST, module_name: str, module: Module) -> None:
        bindings = module.imports | dict(_imports(node))
        for use in _uses(node):
            name, _, attribute = use.partition(".")
            if name in bindings:
                target, symbol = bindings[name]
                self.follow((target, symbol or attribute))
            elif name in module.definitions:
                self.follow((module_name, name))
        self.files |= {file for text in _texts(node) if (file := module.path.parent / text).is_file()}


@cache
def _path_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file() and path.is_relative_to(PACKAGE_DIR)), None)


@cache
def _read(path: Path) -> Module:
    module = Module(path)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports |= dict(_imports(node))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            module.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for name in (each.id for each in ast.walk(node) if isinstance(each, ast.Name) and _is_store(each)):
                module.definitions.setdefault(name, []).append(node)
        elif isinstance(node, EFFECTS) and not _is_docstring(node):
            module.effects.append(node)
    return module


def _imports(node: ast.AST) -> Iterator[tuple[str, Bound]]:
    """Names that imports below a node bind, each to a module or to a symbol of one."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            for alias in each.names:
                assert alias.asname or "." not in alias.name or not alias.name.startswith("ndpnet"), alias.name
                yield alias.asname or alias.name.split(".")[0], (alias.name, "")
        elif isinstance(each, ast.ImportFrom):
            for alias in each.names:
                is_module = _path_of(f"{each.module}.{alias.name}") is not None
                bound = (f"{each.module}.{alias.name}", "") if is_module else (each.module or "", alias.name)
                yield alias.asname or alias.name, bound


def _uses(node: ast.AST) -> Iterator[str]:
    """Names that are read below a node, those of modules with the attribute: `name` and `name.attribute`."""
    before_a_dot = set()
    for each in ast.walk(node):  # from the outside in: an attribute comes before the name that it is of
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            before_a_dot.add(each.value)
            yield f"{each.value.id}.{each.attr}"
        elif isinstance(each, ast.Name) and not _is_store(each) and each not in before_a_dot:
            yield each.id


def _texts(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.endswith((".j2", ".yaml")):
            yield each.value


def _is_store(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
