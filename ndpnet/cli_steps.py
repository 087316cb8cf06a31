"""The verbs of the steps from pictures to a judged model, each with its parameters, and those for faster engines."""

from pathlib import Path
from typing import Any

import click

from ndpnet.cli_base import (
    BANK,
    MODEL,
    PACKAGE,
    PHASE1,
    PREPARED,
    WORK_DIR,
    folder_option,
    several,
    with_params,
)

SECONDS = click.FloatRange(min=0, min_open=True)
# what chooses an engine of the model
engine_options = several(
    click.option(
        "--engine", default="torch", show_default=True, help="torch; onnx or openvino if exported into the model."
    ),
    click.option("--precision", help="fp32, bf16 or int8; the finest that the model has if left out."),
)


@click.command("prepare")
@folder_option("--data", "Folder with one folder per category.")
@click.option("--category", required=True, help="Category to prepare.")
@folder_option("--out", "Prepared folder to write.")
@click.option("--allow-unpinned", is_flag=True, help="Take unpinned pictures; such a model cannot be promoted.")
@with_params
def prepare(data: Path, category: str, out: Path, allow_unpinned: bool, params: Any) -> None:
    """Decode the pictures of one category and split them for training, calibration and test."""
    from ndpnet import steps
    from ndpnet.data.versions.version import UnpinnedError

    try:
        counts = steps.prepare(data, category, out, params, allow_unpinned=allow_unpinned)
    except UnpinnedError as error:
        raise ValueError(f"{error}; or pass --allow-unpinned: such a model cannot be promoted") from error
    click.echo(
        f"{category}: {counts['num_train']} pictures to train on, {counts['num_validation']} to watch it, "
        f"{counts['num_calibration']} in {counts['num_calibration_groups']} groups to set the threshold; to test "
        f"{counts['num_test_good']} good and {counts['num_test_defective']} defective ones. Written to {out}"
    )


@click.command("synthesize")
@folder_option("--out", "Bank folder to write.")
@with_params
def synthesize(out: Path, params: Any) -> None:
    """Make the bank of artificial defects that training paints on good pictures."""
    from ndpnet import steps

    counts = steps.synthesize(out, params)
    click.echo(
        f"{counts['num_masks']} shapes of defects, {counts['num_line_masks']} of them lines and "
        f"{counts['num_crack_masks']} cracks, and {counts['num_sources']} fillings. Written to {out}"
    )


@click.command("train-phase1")
@folder_option("--prepared", "What `prepare` wrote, as build/NAME/prepared.", PREPARED)
@folder_option("--bank", "What `synthesize` wrote, as build/bank.", BANK)
@folder_option("--out", "Folder to write weights and history to.")
@WORK_DIR
@with_params
def train_phase1(prepared: Path, bank: Path, out: Path, work_dir: str, params: Any) -> None:
    """Train encoder and decoder, the first half of a model; killed, the same command goes on where it was."""
    from ndpnet import steps

    result = steps.train_phase1(prepared, bank, out, params, work_dir)
    _say_trained("phase 1", result, out)


@click.command("train-phase2")
@folder_option("--prepared", "What `prepare` wrote, as build/NAME/prepared.", PREPARED)
@folder_option("--bank", "What `synthesize` wrote, as build/bank.", BANK)
@folder_option("--phase1", "What `train-phase1` wrote, as build/NAME/phase1.", PHASE1)
@folder_option("--out", "Model package to write.")
@WORK_DIR
@with_params
def train_phase2(prepared: Path, bank: Path, phase1: Path, out: Path, work_dir: str, params: Any) -> None:
    """Train attention, decoder and segmentation, fit the threshold and write the model package."""
    from ndpnet import steps

    result = steps.train_phase2(prepared, bank, phase1, out, params, work_dir)
    _say_trained("phase 2", result, out)
    if result:
        click.echo(f"threshold {result['threshold']:.4f}" if "threshold" in result else "no threshold: no calibration")


@click.command("evaluate")
@folder_option("--prepared", "Prepared folder with test images, as build/NAME/prepared.", PREPARED)
@PACKAGE
@folder_option("--out", "Folder to write metrics and report to.")
@engine_options
@with_params
def evaluate(prepared: Path, model: Path, out: Path, params: Any, **engine: Any) -> None:
    """Judge the test images of a category and write metrics, overlays and the HTML report."""
    from ndpnet import steps

    steps.evaluate(prepared, model, out, params, **engine)
    click.echo((out / "table.txt").read_text())
    click.echo(f"report: {out / 'report.html'}")


def _say_trained(phase: str, result: dict[str, float], out: Path) -> None:
    """Nothing of torchrun's other processes."""
    if result:
        click.echo(
            f"{phase}: loss {result['loss']:.4g} after {result['seconds']:.0f} seconds, "
            f"{result['images_per_second']:.1f} images per second. Written to {out}"
        )


@click.command("export")
@click.argument("model", type=MODEL)
@click.option("--engine", required=True, help="onnx or openvino.")
@click.option("--precision", default="fp32", show_default=True, help="fp32; with openvino also bf16, int8.")
@folder_option("--prepared", "Prepared folder that it was trained on, as build/NAME/prepared.", PREPARED)
@folder_option("--bank", "Bank that it was trained with, as build/bank.", BANK)
@folder_option("--out", "Model package to write: MODEL with one more engine.")
def export(model: Path, engine: str, precision: str, prepared: Path, bank: Path, out: Path) -> None:
    """Add a faster engine to MODEL, if it says what torch says on training and synthetic validation images."""
    from ndpnet.inference.engines.export import export as add_engine
    from ndpnet.metrics.summary import HEADLINE

    parity = add_engine(model, out, prepared=prepared, bank=bank, engine=engine, precision=precision)
    validation = parity["validation"]
    for name in ("image_auroc", "pixel_auroc"):
        values = validation[name]
        click.echo(
            f"{HEADLINE[name]}: {values['engine']:.4f}, with torch {values['torch']:.4f} (synthetic validation images)"
        )
    for name in ("training", "validation"):
        click.echo(
            f"{name} images: map differs by up to {parity[name]['largest_map_difference']:.2g}, score by up to "
            f"{parity[name]['largest_score_difference']:.2g}, verdicts that differ: "
            f"{parity[name]['num_differing_verdicts']} of {parity[name]['num_images']}"
        )
    of_engine, of_torch = (parity["thresholds"][name] for name in ("engine", "torch"))
    if of_torch is not None:
        click.echo(f"threshold: {of_engine:.4f}, with torch {of_torch:.4f}")
    click.echo(f"Written to {out}")


@click.command("speed")
@click.argument("model", type=MODEL)
@click.option("--seconds", type=SECONDS, default=10.0, show_default=True, help="How long to measure each engine.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each engine.")
def speed(model: Path, seconds: float, threads: int) -> None:
    """Measure how fast MODEL judges a picture on this machine, with every engine that it has."""
    from ndpnet.inference.speed import format_table, measure

    click.echo(format_table(measure(model, seconds=seconds, num_threads=threads), num_threads=threads))
