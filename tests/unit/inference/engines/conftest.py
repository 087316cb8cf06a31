"""A package that was trained until it finds defects, and its exports, once per session."""

import shutil
from pathlib import Path

import pytest
from samples import Pipeline, write_params

from ndpnet import steps
from ndpnet.config import load_params
from ndpnet.inference.engines.export import export


@pytest.fixture(scope="session")
def trained_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's phase 1 with a longer phase 2: scores that lie apart, which half precision must keep in order."""
    folder = tmp_path_factory.mktemp("trained")
    path = write_params(folder / "params.yaml", train={"phase2": {"epochs": 50, "learning_rate": 0.01}})
    inputs = (pipeline.prepared_dir, pipeline.bank_dir, pipeline.phase1_dir)
    steps.train_phase2(*inputs, folder / "model", load_params(path), folder / "work")
    return folder / "model"


@pytest.fixture(scope="session")
def exported_dir(trained_dir: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained package with engines: onnx-fp32, openvino-fp32, openvino-bf16. Read it, do not write into it."""
    out = tmp_path_factory.mktemp("exported") / "model"
    inputs = {"prepared": pipeline.prepared_dir, "bank": pipeline.bank_dir}
    export(trained_dir, out, engine="onnx", precision="fp32", **inputs)
    for precision in ("fp32", "bf16"):
        export(out, out, engine="openvino", precision=precision, **inputs)
    return out


@pytest.fixture
def copy_dir(exported_dir: Path, tmp_path: Path) -> Path:
    """A copy of the exported package to damage."""
    return shutil.copytree(exported_dir, tmp_path / "copy")
