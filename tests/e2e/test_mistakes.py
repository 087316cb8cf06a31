"""Whatever a user gets wrong: exit code 1, one line that names the thing and the mend, and nothing left behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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

    def write_image(self, path: str, height: int, width: int) -> None:
        """Write a noise picture below the copied pictures."""
        pixels = np.random.default_rng(7).integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(self.write(path))

    def edit_config(self, **changes: object) -> None:
        """Change entries of the copied package's config."""
        path = self.model_dir / "config.json"
        path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


def no_category(scene: Scene) -> list[object]:
    (scene.folder / "data").mkdir()
    return scene.prepare()


def no_train_good(scene: Scene) -> list[object]:
    shutil.rmtree(scene.category_dir / "train")
    return scene.prepare()


def empty_train_good(scene: Scene) -> list[object]:
    shutil.rmtree(scene.category_dir / "train/good")
    (scene.category_dir / "train/good").mkdir()
    return scene.prepare()


def corrupt_image(scene: Scene) -> list[object]:
    path = scene.category_dir / "train/good/wall_p00_0.png"
    path.write_bytes(path.read_bytes()[:300])
    return scene.prepare()


def too_small(scene: Scene) -> list[object]:
    scene.write_image("train/good/wall_p00_9.png", 63, 100)
    return scene.prepare()


def mask_of_another_size(scene: Scene) -> list[object]:
    scene.write_image("ground_truth/hole/wall_p80_1_mask.png", 80, 97)
    return scene.prepare()


def mask_without_image(scene: Scene) -> list[object]:
    scene.write_image("ground_truth/hole/wall_p99_1_mask.png", 80, 96)
    return scene.prepare()


def image_without_mask(scene: Scene) -> list[object]:
    (scene.category_dir / "ground_truth/hole/wall_p80_1_mask.png").unlink()
    return scene.prepare()


def trained_and_tested(scene: Scene) -> list[object]:
    scene.write("test/good/wall_p77_0.png", (scene.category_dir / "train/good/wall_p00_0.png").read_bytes())
    return scene.prepare()


def no_group(scene: Scene) -> list[object]:
    scene.write_image("train/good/holiday.png", 64, 64)
    return scene.prepare()


def nothing_left_to_train(scene: Scene) -> list[object]:
    for path in (scene.category_dir / "train/good").glob("wall_p0[0-7]_*.png"):
        path.unlink()
    return scene.prepare()


def unknown_parameter(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "-P", "train.phase1.epoch=3")


def bad_value(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "-P", "train.batch_size=none")


def unknown_profile(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "--profile", "dmo")


def no_parameter_file(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "--params", scene.folder / "none.yaml")


def file_in_the_way(scene: Scene) -> list[object]:
    return scene.train("--out", scene.write("notes.txt"))


def below_a_file(scene: Scene) -> list[object]:
    return scene.train("--out", scene.write("notes.txt") / "out")


def kernel_folder(scene: Scene) -> list[object]:
    return scene.train("--out", "/proc/ndpnet/out")


def kernel_work_folder(scene: Scene) -> list[object]:
    return ["train-phase1", *scene.pipeline.inputs, "--out", scene.folder / "out", "--work-dir", "/proc/ndpnet"]


def folder_of_pictures(scene: Scene) -> list[object]:
    return scene.train("--out", scene.category_dir)


def no_prepared_folder(scene: Scene) -> list[object]:
    inputs = ("--prepared", scene.folder / "none", *scene.pipeline.inputs[2:])
    return ["train-phase1", *inputs, "--out", scene.folder / "out", "--work-dir", scene.folder / "work"]


def no_bank(scene: Scene) -> list[object]:
    inputs = (*scene.pipeline.inputs[:2], "--bank", scene.folder / "none")
    return ["train-phase1", *inputs, "--out", scene.folder / "out", "--work-dir", scene.folder / "work"]


def no_phase1(scene: Scene) -> list[object]:
    options = ("--phase1", scene.folder / "none", "--out", scene.folder / "out", "--work-dir", scene.folder / "work")
    return ["train-phase2", *scene.pipeline.inputs, *options]


def diverging(scene: Scene) -> list[object]:
    return scene.train("--out", scene.folder / "out", "-P", "train.phase1.learning_rate=1e30")


def no_package(scene: Scene) -> list[object]:
    return scene.evaluate("--model", scene.folder / "none")


def package_of_another_version(scene: Scene) -> list[object]:
    scene.edit_config(format_version=4)
    return scene.inspect()


def damaged_package(scene: Scene) -> list[object]:
    path = scene.model_dir / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return scene.evaluate()


def truncated_config(scene: Scene) -> list[object]:
    path = scene.model_dir / "config.json"
    path.write_bytes(path.read_bytes()[:100])
    return scene.inspect()


def package_without_threshold(scene: Scene) -> list[object]:
    scene.edit_config(threshold=None)
    return scene.inspect()


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


def no_such_device(scene: Scene) -> list[object]:
    return scene.inspect("--device", "tpu9")


def calibrate_on_training_images(scene: Scene) -> list[object]:
    good_dir = scene.pipeline.data_dir / CATEGORY / "train/good"
    return ["calibrate", scene.model_dir, good_dir, "--out", scene.folder / "out"]


def calibrate_on_nothing(scene: Scene) -> list[object]:
    (scene.folder / "empty").mkdir()
    return ["calibrate", scene.model_dir, scene.folder / "empty", "--out", scene.folder / "out"]


def demo_over_pictures(scene: Scene) -> list[object]:
    scene.category_dir.rename(scene.folder / "brick")
    return ["demo-data", scene.folder]


MISTAKES: list[tuple[Callable[[Scene], list[object]], str]] = [
    (no_category, "no folder {folder}/data/wall (run `dvc pull`, or check"),
    (no_train_good, "no folder {folder}/data/wall/train/good (put the defect-free training images there)"),
    (empty_train_good, "no images under {folder}/data/wall/train/good (run `dvc pull` or add defect-free ones)"),
    (corrupt_image, "cannot read {folder}/data/wall/train/good/wall_p00_0.png: truncated image (replace or remove it)"),
    (too_small, "wall_p00_9.png has 100x63 pixels, a side below 64 (use larger pictures)"),
    (mask_of_another_size, "wall_p80_1_mask.png has 97x80 pixels, its picture 96x80 (draw it at the picture's size)"),
    (mask_without_image, "wall_p99_1_mask.png has no image under test (remove the mask or add the image)"),
    (image_without_mask, "wall_p80_1.png has no mask, but others have (add ground_truth/hole/wall_p80_1_mask.png)"),
    (trained_and_tested, "first train/good/wall_p00_0.png = test/good/wall_p77_0.png (remove them from one: "),
    (no_group, "finds no group in train/good/holiday.png (another pattern, '' for none, or rename the file)"),
    (nothing_left_to_train, "no image is left to train on: calibration takes 6 of train/good and validation 2"),
    (unknown_parameter, "unknown parameter 'train.phase1.epoch' (did you mean 'epochs'?)"),
    (bad_value, "parameter 'train.batch_size': "),
    (unknown_profile, "unknown profile 'dmo' (did you mean 'demo'?)"),
    (no_parameter_file, "no parameter file {folder}/none.yaml"),
    (file_in_the_way, "cannot write folder {folder}/data/wall/notes.txt: a file has this name (remove it or choose"),
    (below_a_file, "cannot write {folder}/data/wall/notes.txt/out: Not a directory (choose a folder you can write to)"),
    (kernel_folder, "cannot write /proc/ndpnet/out: No such file or directory (choose a folder you can write to)"),
    (kernel_work_folder, "cannot write /proc/ndpnet/phase1-"),
    (folder_of_pictures, "will not replace folder {folder}/data/wall: it has other content and no phase1.json (choose"),
    (no_prepared_folder, "{folder}/none has no manifest.json (run the step that makes it again)"),
    (no_bank, "{folder}/none has no bank.json (run the step that makes it again)"),
    (no_phase1, "{folder}/none has no weights.safetensors (run the step that makes it again)"),
    (diverging, "phase 1: non-finite "),
    (no_package, "no model package in {folder}/none (it has no config.json; run `ndpnet train-phase2`)"),
    (package_of_another_version, "{folder}/model has package format 4, this ndpnet reads 5 (retrain, or install"),
    (damaged_package, "{folder}/model/weights.safetensors is damaged: not the hash in config.json (copy the package"),
    (truncated_config, "{folder}/model/config.json is damaged: "),
    (package_without_threshold, "the model has no threshold (run `ndpnet calibrate MODEL GOOD_IMAGES`, or pass --thr"),
    (
        package_of_another_size,
        "is prepared at 64 px, the model takes 128 (run `ndpnet prepare -P data.image_size=128`)",
    ),
    (no_test_images, "no test images in {folder}/prepared (add test/good and test/<defect type>, prepare again)"),
    (evaluation_over_pictures, "will not replace folder {folder}/data/wall: it has other content and no metrics.json"),
    (nothing_to_inspect, "no file or folder {folder}/none.png (check the path)"),
    (no_such_device, "no device 'tpu9' (use cpu or cuda)"),
    (calibrate_on_training_images, "is one of the model's training images (calibrate on pictures it has never seen)"),
    (calibrate_on_nothing, "no images under {folder}/empty (known endings: .png,"),
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
