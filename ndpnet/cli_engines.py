"""The verbs for faster engines: export one, compare those of a model on this machine."""

from pathlib import Path

import click

from ndpnet.cli_base import BANK, MODEL, PREPARED, folder_option, several

SECONDS = click.FloatRange(min=0, min_open=True)
# what chooses an engine of the model
engine_options = several(
    click.option(
        "--engine", default="torch", show_default=True, help="torch; onnx or openvino if exported into the model."
    ),
    click.option("--precision", help="fp32, bf16 or int8; the finest that the model has if left out."),
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
