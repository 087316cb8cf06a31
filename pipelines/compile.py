"""Pipelines as files: what KFP takes, the same bytes for the same settings."""

from pathlib import Path
from typing import TYPE_CHECKING

from kfp import compiler

from ndpnet.pipelines import inspection, training

if TYPE_CHECKING:
    from ndpnet.config import Params


def compile_training(settings: "Params", out_dir: Path) -> Path:
    """Write ndpnet-training.yaml. -> its path"""
    return _compile(training.training_pipeline(settings), out_dir, training.NAME)


def compile_inspection(settings: "Params", out_dir: Path) -> Path:
    """Write ndpnet-inspection.yaml. -> its path"""
    return _compile(inspection.inspection_pipeline(settings), out_dir, inspection.NAME)


def compile_all(settings: "Params", out_dir: Path) -> list[Path]:
    """Write every pipeline. -> their paths"""
    return [compile_training(settings, out_dir), compile_inspection(settings, out_dir)]


def _compile(pipeline: object, out_dir: Path, name: str) -> Path:
    path = Path(out_dir) / f"{name}.yaml"
    partial = path.with_name(f".{name}.partial.yaml")  # KFP goes by the suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        compiler.Compiler().compile(pipeline, str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
