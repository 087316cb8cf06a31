"""Whatever a user gets wrong: exit code 1, one line that names the thing and the mend, and nothing left behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import paths_below, run_cli
from samples import CATEGORY, Pipeline

from ndpnet.inference.identity import sealed


class Scene:
    """A folder in which something is wrong."""

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self.pipeline, self.folder = pipeline, folder

    @property
    def category_dir(self) -> Path:
        """A copy of the pictures, made when first asked for."""
        copy_dir = self.folder / "data" / CATEGORY
        return copy_dir if copy_dir.exists() else shutil.copytree(self.pipeline.data_dir / CATEGORY, copy_dir)

    @property
    def model_dir(self) -> Path:
        """A copy of the package, made when first asked for."""
        copy_dir = self.folder / "model"
        return copy_dir if copy_dir.exists() else shutil.copytree(self.pipeline.model_dir, copy_dir)

    def prepare(self, *options: object) -> list[object]:
        """Prepare the copied pictures."""
        data = ["--data", self.folder / "data", "--category", CATEGORY]
        return ["prepare", *data, "--out", self.folder / "out", "--allow-unpinned", *options]

    def train(self, *options: object) -> list[object]:
        """Train phase 1 from good inputs."""
        return ["train-phase1", *self.pipeline.inputs, "--work-dir", self.folder / "work", *options]

    def inspect(self, *options: object) -> list[object]:
        """Inspect the test pictures with the copied package."""
        return ["inspect", self.pipeline.data_dir, "--model", self.model_dir, "--out", self.folder / "out", *options]

    def evaluate(self, *options: object) -> list[object]:
        """Evaluate the copied package."""
        prepared = ["--prepared", self.pipeline.prepared_dir] if "--prepared" not in options else []
        return ["evaluate", *prepared, "--model", self.model_dir, "--out", self.folder / "out", *options]

    def write(self, path: str, content: bytes = b"x") -> Path:
        """Write a file below the copied pictures."""
        target = self.category_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def edit_config(self, **changes: object) -> None:
        """Change entries of the copied package's config."""
        path = self.model_dir / "config.json"
        path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


def corrupt_image(scene: Scene) -> list[object]:
    path = scene.category_dir / "train/good/wall_p00_0.png"
    path.write_bytes(path.read_bytes()[:300])
    return scene.prepare()


def unknown_parameter(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "-P", "train.phase1.epoch=3")


def kernel_work_folder(scene: Scene) -> list[object]:
    return ["train-phase1", *scene.pipeline.inputs, "--out", scene.folder / "out", "--work-dir", "/proc/ndpnet"]


def no_bank(scene: Scene) -> list[object]:
    inputs = (*scene.pipeline.inputs[:2], "--bank", scene.folder / "none")
    return ["train-phase1", *inputs, "--out", scene.folder / "out", "--work-dir", scene.folder / "work"]


def model_one_level_off(scene: Scene) -> list[object]:
    return ["inspect", scene.pipeline.data_dir, "--model", scene.model_dir.parent, "--out", scene.folder / "out"]


def diverging(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "-P", "train.phase1.learning_rate=1e30")


def package_of_another_size(scene: Scene) -> list[object]:
    params = json.loads((scene.model_dir / "config.json").read_text())["params"]
    params["data"]["image_size"] = 128
    scene.edit_config(params=params)
    return scene.evaluate()


def no_test_images(scene: Scene) -> list[object]:
    prepared_dir = shutil.copytree(scene.pipeline.prepared_dir, scene.folder / "prepared")
    manifest = json.loads((prepared_dir / "manifest.json").read_text())
    manifest["files"] = [record for record in manifest["files"] if record["split"] != "test"]
    (prepared_dir / "manifest.json").write_text(json.dumps(manifest))
    return scene.evaluate("--prepared", prepared_dir)


def evaluation_over_pictures(scene: Scene) -> list[object]:
    return scene.evaluate("--out", scene.category_dir)


def nothing_to_inspect(scene: Scene) -> list[object]:
    return ["inspect", scene.folder / "none.png", "--model", scene.model_dir, "--out", scene.folder / "out"]


def calibrate_on_training_images(scene: Scene) -> list[object]:
    good_dir = scene.pipeline.data_dir / CATEGORY / "train/good"
    return ["calibrate", scene.model_dir, good_dir, "--out", scene.folder / "out"]


def demo_over_pictures(scene: Scene) -> list[object]:
    scene.category_dir.rename(scene.folder / "brick")
    return ["demo-data", scene.folder]


MISTAKES: list[tuple[Callable[[Scene], list[object]], str]] = [
    (corrupt_image, "cannot read {folder}/data/wall/train/good/wall_p00_0.png: truncated image (replace or remove it)"),
    (unknown_parameter, "unknown parameter 'train.phase1.epoch' (did you mean 'epochs'?)"),
    (kernel_work_folder, "cannot write /proc/ndpnet/phase1-"),
    (no_bank, "{folder}/none has no bank.json (run the step that makes it again)"),
    (model_one_level_off, "no config.json in {folder} (did you mean {folder}/model?)"),
    (diverging, "phase 1: non-finite "),
    (
        package_of_another_size,
        "is prepared with data.image_size 64, the model takes 128 (run `ndpnet prepare -P data.",
    ),
    (no_test_images, "no test images in {folder}/prepared (add test/good and test/<defect type>, prepare again)"),
    (evaluation_over_pictures, "will not replace folder {folder}/data/wall: it has other content and no metrics.json"),
    (nothing_to_inspect, "no file or folder {folder}/none.png (check the path)"),
    (calibrate_on_training_images, "is one of the model's training images (calibrate on pictures it has never seen)"),
    (demo_over_pictures, "will not replace folder {folder}/brick: it has other content and no train/good/brick_r1c1"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(
    pipeline: Pipeline,
    tmp_path: Path,
    mistake: Callable[[Scene], list[object]],
    message: str,
) -> None:
    command = mistake(Scene(pipeline, tmp_path))
    if command[0] not in ("inspect", "calibrate", "demo-data") and "--params" not in command:
        command += ["--params", pipeline.params_path]
    before = paths_below(tmp_path)
    finished = run_cli(command, tmp_path / "log")
    assert finished.exit_code == 1, finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    (line,) = finished.error_lines
    assert line.startswith("Error: ")
    assert message.format(folder=tmp_path) in line
    # a training that fails may keep its work folder, and nothing else
    assert [name for name in paths_below(tmp_path) if name.split("/")[0] != "work"] == before
    assert not [name for name in paths_below(tmp_path) if name.endswith((".partial", ".lock", ".tmp"))]
