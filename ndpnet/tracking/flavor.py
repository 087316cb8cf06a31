"""The MLflow model folder of a package: its signature, its requirements, the code that predicts, the package itself."""

import base64
import io
import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Object, Property
from PIL import Image

import ndpnet
from ndpnet.data.fitting import MIN_SIDE
from ndpnet.inference.identity import copy_package
from ndpnet.inference.package import ModelPackage
from ndpnet.lineage import ADAPTERS, PACKAGE_DIR

PACKAGE_PATH = "artifacts/package"  # of the package inside the MLflow model
CARD, EVALUATION_PATH = "model_card.md", "evaluation"
EVALUATION_FILES = ("metrics.json", "timing.json", "predictions.csv", "table.txt")  # without the pictures
# what loading and predicting imports; nothing that only trains, tracks or stores
REQUIREMENTS = (
    "mlflow-skinny",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "scipy",
    "timm",
    "torch",
    "tqdm",
)


def signature() -> ModelSignature:
    """One column `image` of anything that `serving_model.decode_cell` takes; a table with one row per picture."""
    region = {name: DataType.long for name in ("left", "top", "width", "height", "area")} | {"score": DataType.double}
    regions = Array(Object([Property(name, kind) for name, kind in region.items()]))
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.double, "score", required=False),  # none of a picture that cannot be read
        ColSpec(DataType.double, "threshold", required=False),
        ColSpec(DataType.string, "verdict"),
        ColSpec(DataType.long, "width", required=False),
        ColSpec(DataType.long, "height", required=False),
        ColSpec(regions, "regions"),
        ColSpec(DataType.string, "map", required=False),
        ColSpec(DataType.string, "error", required=False),
        ColSpec(DataType.string, "package_hash"),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), "image")]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("with_map", DataType.boolean, False)]),
    )


def input_example(package: ModelPackage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A plain grey picture that the model takes, as base64, mostly some hundred bytes, and the parameters."""
    roi, buffer = package.roi(), io.BytesIO()
    scale = package.tiling.scale if package.tiling else 1.0
    height, width = (math.ceil(max(side, MIN_SIDE) / scale) for side in package.input_size)
    size = (height, width) if roi is None else roi.shape  # scans have the size that the region was drawn on
    Image.fromarray(np.full(size, 128, dtype=np.uint8)).save(buffer, format="PNG", optimize=True)
    return pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode("ascii")]}), {"with_map": False}


def write_mlflow_model(
    folder: Path, package: ModelPackage, *, package_hash: str, model: Model, card: str, evaluation_dir: Path
) -> None:
    """Write the MLflow model of a package to `folder`, which must not exist; `model` names its ids."""
    staged_dir = folder.with_name(f"{folder.name}-parts")
    shutil.copytree(PACKAGE_DIR, staged_dir / "code" / ndpnet.__name__, ignore=_is_no_source)
    package_dir = staged_dir / "package"
    package_dir.mkdir()
    copy_package(package.folder, package_dir)
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(PACKAGE_DIR / "serving_model.py"),
        artifacts={"package": str(package_dir)},
        code_paths=[str(staged_dir / "code" / ndpnet.__name__)],
        # a local build's label (torch's "+cpu") is on no index
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        signature=signature(),
        input_example=input_example(package),
        model_config={"package_hash": package_hash, "device": "cpu", "engine": "torch", "precision": None},
        mlflow_model=model,
        uv_project_path=str(staged_dir),  # has none: else MLflow takes the uv.lock of the working directory along
    )
    _forget_local_paths(folder)
    (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
    (folder / EVALUATION_PATH).mkdir()
    for name in EVALUATION_FILES:
        if (evaluation_dir / name).is_file():
            shutil.copyfile(evaluation_dir / name, folder / EVALUATION_PATH / name)
    shutil.rmtree(staged_dir)


def _forget_local_paths(folder: Path) -> None:
    """MLflow notes where the sources lay on this machine; it loads by the names alone."""
    model = Model.load(str(folder))
    flavor = model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    flavor["artifacts"]["package"]["uri"] = flavor["artifacts"]["package"]["path"]
    model.save(str(folder / MLMODEL_FILE_NAME))


def _is_no_source(_: str, names: list[str]) -> set[str]:
    hidden, others = (".", "__pycache__"), (".pyc", ".orig", ".rej")
    return {name for name in names if name in ADAPTERS or name.startswith(hidden) or name.endswith(others)}
