"""What importing costs, and what the library must never import."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ndpnet
from ndpnet import lineage

PACKAGE_DIR = Path(ndpnet.__file__).parent
ADAPTERS = {"ndpnet.components", "ndpnet.pipelines", "kfp"}  # they import the library, not the other way round
SOURCES = sorted(
    path for path in PACKAGE_DIR.rglob("*.py") if path.relative_to(PACKAGE_DIR).parts[0] not in lineage.ADAPTERS
)
CORE = {"data", "synthesis", "model", "metrics", "training", "inference", "evaluation"}
PLATFORM = {"tracking", "promotion", "storage", "batch", "benchmark", "pipelines", "components", "config_platform"}
PLATFORM |= {"station"}
ONLY_IMPORTERS = {
    "mlflow": ("tracking/", "serving_model.py"),
    "boto3": ("storage/bucket.py",),
    "botocore": ("storage/bucket.py",),
    "s3transfer": ("storage/bucket.py",),
    "dvc": ("storage/pins.py",),
    # by way of load_module, which keeps them from reporting usage
    "openvino": (),
    "nncf": (),
    "onnxruntime": (),
    "onnx": (),
}
SLOW = {"torch", "torchvision", "lightning_fabric", "mlflow", "kfp", "sklearn", "scipy", "matplotlib", "skimage"}
SLOW |= {"boto3", "botocore", "s3transfer", "dvc", "openvino", "nncf", "onnxruntime", "onnx", "onnxscript"}


def imported_modules(path: Path) -> set[str]:
    """Names of everything a file imports, inside functions too: top-level ones, and those directly in ndpnet."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}:{node.lineno} imports *"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2)}
    return found


def test_the_walk_sees_the_whole_library() -> None:
    assert len(SOURCES) > 40
    assert {"torch", "lightning_fabric", "ndpnet"} <= imported_modules(PACKAGE_DIR / "training" / "loop.py")
    assert "git" not in imported_modules(PACKAGE_DIR / "cli.py")
    assert "yaml" in imported_modules(PACKAGE_DIR / "cli_base.py")  # inside a function
    assert {"ndpnet.components", "ndpnet.pipelines"} <= imported_modules(PACKAGE_DIR / "pipelines" / "training.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE_DIR).as_posix())
def test_no_file_imports_an_adapter_or_a_service_of_another_file(path: Path) -> None:
    modules = imported_modules(path)
    assert not modules & ADAPTERS
    for module, importers in ONLY_IMPORTERS.items():
        assert module not in modules or path.relative_to(PACKAGE_DIR).as_posix().startswith(importers)


def test_no_packages_of_the_core_import_each_other_in_a_circle() -> None:
    graph = {name: imported_packages(PACKAGE_DIR / name) & CORE - {name} for name in CORE}
    assert set(TopologicalSorter(graph).static_order()) == CORE  # CycleError names a circle


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_nothing_of_the_platform(name: str) -> None:
    allowed = {"data": {"storage"}}  # which brings and pins pictures
    assert imported_packages(PACKAGE_DIR / name) & PLATFORM <= allowed.get(name, set())


def imported_packages(folder: Path) -> set[str]:
    """First-level packages of ndpnet that the files below a folder import, inside functions too."""
    text = "".join(path.read_text() for path in sorted(folder.rglob("*.py")))
    return set(re.findall(r"^ *(?:from|import) ndpnet\.(\w+)", text, re.MULTILINE))


PLAIN = ([], ["--help"], ["train-phase1", "--help"], ["prepare", "--data", "x"])


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import ndpnet.config", SLOW),
        ("import ndpnet.inference", SLOW),
        ("import ndpnet.steps", SLOW),
        *((f"from ndpnet.cli import main; main({arguments})", SLOW | {"numpy", "pydantic"}) for arguments in PLAIN),
    ],
)
def test_neither_imports_nor_help_load_anything_slow(code: str, unwanted: set[str]) -> None:
    program = f"import sys\ntry: {code}\nfinally: print('LOADED', *{{each.partition('.')[0] for each in sys.modules}})"
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=PACKAGE_DIR.parent)
    loaded = set(finished.stdout.split("LOADED")[1].split())
    assert "ndpnet" in loaded
    assert not unwanted & loaded
