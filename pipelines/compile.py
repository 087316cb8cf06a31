"""Pipelines as files: what KFP takes, the same bytes for the same settings."""

from pathlib import Path
from typing import TYPE_CHECKING

from kfp import compiler

from ndpnet.pipelines import inspection, training

if TYPE_CHECKING:
    from ndpnet.config import Params


PIPELINES = {
    training.NAME: training.training_pipeline,
    inspection.NAME: inspection.inspection_pipeline,
}


def compile_pipeline(name: str, settings: "Params", out_dir: Path) -> Path:
    """Write a pipeline as NAME.yaml. -> its path"""
    path = Path(out_dir) / f"{name}.yaml"
    partial = path.with_name(f".{name}.partial.yaml")  # KFP goes by the suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        compiler.Compiler().compile(PIPELINES[name](settings), str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
