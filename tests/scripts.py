"""Scripts of the repository that are no part of the package, as modules."""

import importlib.util
from types import ModuleType

from documents import ROOT


def load_script(path: str) -> ModuleType:
    """A script by its path in the repository."""
    spec = importlib.util.spec_from_file_location(path.rpartition("/")[2].removesuffix(".py"), ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
