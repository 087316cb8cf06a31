"""Pipelines as files: what KFP takes, the same bytes for the same settings."""

from pathlib import Path
from typing import TYPE_CHECKING

from kfp import compiler

from pipelines.training import NAME, training_pipeline

if TYPE_CHECKING:
    from ndpnet.config import Params


def compile_training(settings: "Params", out_dir: Path) -> Path:
    """Write ndpnet-training.yaml. -> its path"""
    return _compile(training_pipeline(settings), out_dir, NAME)


def compile_all(settings: "Params", out_dir: Path) -> list[Path]:
    """Write every pipeline. -> their paths"""
    return [compile_training(settings, out_dir)]


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
