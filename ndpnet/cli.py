"""The command line: one verb per step, and those for people. The only place that prints."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import click

from ndpnet import __version__
from ndpnet.cli_base import FolderPath, PackagePath, Resumable, end_interrupted
from ndpnet.cli_benchmark import benchmark
from ndpnet.cli_data import data_group, import_command, version_data_command
from ndpnet.cli_engines import bench, engine_options, export
from ndpnet.cli_registry import download, history, promote, register, reproduce, rollback
from ndpnet.cli_station import station
from ndpnet.cli_tracking import tracking_group
from ndpnet.cli_upkeep import doctor, gc

VERBS = "ndpnet.verbs"  # entry points: click commands of components/ and pipelines/
EXIT_GOOD, EXIT_ERROR, EXIT_DEFECTIVE, EXIT_REVIEW = 0, 1, 3, 4
MAX_SENTENCE = 160  # characters

SECTIONS = {
    "Start": ("demo-data", "doctor"),
    "Data": ("import", "data", "version-data"),
    "Train": ("prepare", "synthesize", "train-phase1", "train-phase2"),
    "Judge": ("evaluate", "benchmark"),
    "Use": ("inspect", "station", "calibrate", "export", "bench"),
    "Registry": ("register", "promote", "rollback", "history", "download", "reproduce"),
    "Kubeflow": ("pipeline",),
    "Upkeep": ("tracking", "gc"),
}


class OneLineErrors(click.Group):
    """Turns what a user can cause into one line and exit code 1; anything else is a bug and keeps its traceback.

    Verbs of the adapters, which this library does not import, come by the entry points of VERBS when asked for.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all verbs."""
        return sorted({*super().list_commands(ctx), *_adapters_verbs()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb by its name."""
        found = super().get_command(ctx, cmd_name)
        return found or (verb.load() if (verb := _adapters_verbs().get(cmd_name)) else None)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by what a person does, with the first sentence of their help."""
        for title, names in SECTIONS.items():
            verbs = {name: verb for name in names if (verb := self.get_command(ctx, name))}
            with formatter.section(title):
                formatter.write_dl([(name, verb.get_short_help_str(MAX_SENTENCE)) for name, verb in verbs.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            end_interrupted("stopped")
        except (click.exceptions.Exit, click.Abort):  # RuntimeErrors of click's own: --help of a verb
            raise
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            text = str(error) if str(error) or not isinstance(error, MemoryError) else "not enough memory"
            raise click.ClickException(" ".join(text.split())) from error


def _adapters_verbs() -> dict[str, EntryPoint]:
    return {each.name: each for each in distribution("ndpnet").entry_points if each.group == VERBS}


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Surface defect inspection learnt from good pictures alone (NDP-Net)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.captureWarnings(True)
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()


DATA_VERBS = (import_command, data_group, version_data_command)
REGISTRY_VERBS = (register, download, promote, rollback, history, reproduce)
for command in (*DATA_VERBS, *REGISTRY_VERBS, tracking_group, export, bench, benchmark, doctor, gc, station):
    main.add_command(command)


def _end_with_parent() -> None:
    """End when a killed DVC leaves this process behind: its next run would meet it at work."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def with_params(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that choose parameters; it receives them as `params`."""

    def wrapped(
        params_path: Path | None, profile: str | None, overrides: tuple[str, ...], dry_run: bool, **kwargs: Any
    ) -> Any:
        from ndpnet.config import PARAMS_PATH, load_params

        params = load_params(params_path or PARAMS_PATH, profile=profile, overrides=overrides)
        if dry_run:
            import yaml

            arguments = {name: str(value) for name, value in kwargs.items() if value is not None}
            plan = {"step": click.get_current_context().info_name, "arguments": arguments}
            return click.echo(yaml.safe_dump(plan | {"params": params.model_dump(mode="json")}, sort_keys=False))
        return command(params=params, **kwargs)

    wrapped.__doc__ = command.__doc__
    options = [
        click.option("--params", "params_path", type=FolderPath, help="Parameter file instead of the built-in one."),
        click.option("--profile", help="Profile laid over it: demo, paper, line."),
        click.option("-P", "overrides", multiple=True, metavar="NAME=VALUE", help="As in train.batch_size=4."),
        click.option("--dry-run", is_flag=True, help="Print the resolved plan and stop."),
    ]
    for option in reversed(options):
        wrapped = option(wrapped)
    wrapped.__name__ = command.__name__
    return wrapped


def folder_option(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A required path option."""
    return click.option(name, type=FolderPath, required=True, help=text)


PACKAGE = click.option("--model", type=PackagePath(path_type=Path), required=True, help="Model package.")
WORK_DIR = click.option(
    "--work-dir", default=".work", show_default=True, help="Where checkpoints live: a folder, or s3://BUCKET/PREFIX."
)


@main.command("demo-data")
@click.argument("out", type=FolderPath)
def demo_data(out: Path) -> None:
    """Write demo pictures (brick, grass, gravel) under OUT, to try everything without pictures of your own."""
    from ndpnet.data.demo import make_demo_data

    for category, counts in make_demo_data(out).items():
        click.echo(f"{category}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


@main.command("prepare")
@folder_option("--data", "Folder with one folder per category.")
@click.option("--category", required=True, help="Which of them.")
@folder_option("--out", "Prepared folder to write.")
@click.option("--allow-unpinned", is_flag=True, help="Take pictures that are not the pinned ones; bars promotion.")
@with_params
def prepare(data: Path, category: str, out: Path, allow_unpinned: bool, params: Any) -> None:
    """Decode the pictures of one category and split them for training, calibration and test."""
    from ndpnet import tracked_steps

    _echo(tracked_steps.prepare(data, category, out, params, allow_unpinned=allow_unpinned))


@main.command("synthesize")
@folder_option("--out", "Bank folder to write.")
@with_params
def synthesize(out: Path, params: Any) -> None:
    """Make the bank of artificial defects that training paints on good pictures."""
    from ndpnet import tracked_steps

    _echo(tracked_steps.synthesize(out, params))


@main.command("train-phase1", cls=Resumable)
@folder_option("--prepared", "Prepared folder.")
@folder_option("--bank", "Bank folder.")
@folder_option("--out", "Folder to write weights and history to.")
@WORK_DIR
@with_params
def train_phase1(prepared: Path, bank: Path, out: Path, work_dir: str, params: Any) -> None:
    """Train encoder and decoder, the first half of a model; killed, the same command goes on where it was."""
    from ndpnet import tracked_steps

    _echo(tracked_steps.train_phase1(prepared, bank, out, params, work_dir))


@main.command("train-phase2", cls=Resumable)
@folder_option("--prepared", "Prepared folder.")
@folder_option("--bank", "Bank folder.")
@folder_option("--phase1", "Output of train-phase1.")
@folder_option("--out", "Model package to write.")
@WORK_DIR
@with_params
def train_phase2(prepared: Path, bank: Path, phase1: Path, out: Path, work_dir: str, params: Any) -> None:
    """Train attention, decoder and segmentation, fit the threshold and write the model package."""
    from ndpnet import tracked_steps

    _echo(tracked_steps.train_phase2(prepared, bank, phase1, out, params, work_dir))


@main.command("evaluate")
@folder_option("--prepared", "Prepared folder with test images.")
@PACKAGE
@folder_option("--out", "Folder to write metrics and report to.")
@engine_options
@with_params
def evaluate(prepared: Path, model: Path, out: Path, engine: str, precision: str | None, params: Any) -> None:
    """Judge the test images of a category and write metrics, overlays and the HTML report."""
    from ndpnet import tracked_steps

    tracked_steps.evaluate(prepared, model, out, params, engine=engine, precision=precision)
    click.echo((out / "table.txt").read_text())
    click.echo(f"report: {out / 'report.html'}")


@main.command("calibrate")
@click.argument("model", type=PackagePath(path_type=Path))
@click.argument("good_images", type=FolderPath)
@folder_option("--out", "Model package to write.")
@click.option(
    "--group-pattern",
    help='Regex on file names: what was photographed together; that of the model if left out, "" = none.',
)
@click.option("--false-alarm-rate", type=float, help="Target rate; that of the model if left out.")
@click.option(
    "--review-rate", type=float, help="Three verdicts: the share of good pictures that a person may have to look at."
)
@click.option("--roi", "roi_path", type=FolderPath, help="Picture, white where to inspect: for another camera.")
def calibrate(
    model: Path,
    good_images: Path,
    out: Path,
    group_pattern: str | None,
    false_alarm_rate: float | None,
    roi_path: Path | None,
    review_rate: float | None,
) -> None:
    """Fit the threshold of MODEL anew on GOOD_IMAGES: another lamp or camera needs no training."""
    from ndpnet.inference.calibration import calibrate as refit

    options = {"group_pattern": group_pattern, "target_rate": false_alarm_rate, "roi_path": roi_path}
    options |= {"review_rate": review_rate}
    record = refit(model, good_images, out, **options)
    click.echo(f"threshold {record['value']:.4f} from {record['num_images']} images\n{record['statement']}")
    if "review" in record:
        click.echo(f"review from {record['review']['value']:.4f} on. {record['review']['statement']}")
    click.echo("the highest scores, and the threshold without that picture (look at them: is each really good?):")
    for each in record["highest"]:
        without = "none" if each["value_without"] is None else f"{each['value_without']:.4f}"
        click.echo(f"  {each['score']:.4f}  {without}  {each['path']}")


@main.command("inspect", cls=Resumable)
@click.argument("target", metavar="IMAGE_OR_FOLDER", type=FolderPath)
@PACKAGE
@folder_option("--out", "Folder for predictions.csv, predictions.jsonl and overlays/.")
@click.option("--threshold", type=float, help="Instead of the model's own: no false-alarm rate is guaranteed.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Write a picture per image.")
@engine_options
def inspect(
    target: Path,
    model: Path,
    out: Path,
    threshold: float | None,
    device: str,
    overlays: bool,
    engine: str,
    precision: str | None,
) -> None:
    """Tell good pictures from defective ones with a trained model.

    Exit code 0: all good, 3: some defective, 4: none defective and some for a person to look at (`ndpnet calibrate
    --review-rate`), 1: an error, or a file without a verdict.

    A run that was killed, or that filled the disk, goes on where it was: the same command again.
    """
    from ndpnet.inference.folder import inspect_folder
    from ndpnet.inference.inspector import Inspector

    options = {"device": device, "threshold": threshold, "engine": engine, "precision": precision}
    inspector = Inspector.load(model, **options)
    result = inspect_folder(inspector, target, out, with_overlays=overlays)
    for_review = "" if inspector.review_threshold is None else f"{result.num_review} for review, "
    by_hand = "" if threshold is None else ", given by hand: no false-alarm rate is guaranteed"
    click.echo(
        f"{result.num_good} good, {result.num_defective} defective, {for_review}{result.num_failed} not judged "
        f"(threshold {inspector.threshold:.4f}{by_hand}); results in {out}"
    )
    if result.num_failed:
        sys.exit(EXIT_ERROR)
    sys.exit(EXIT_DEFECTIVE if result.num_defective else EXIT_REVIEW if result.num_review else EXIT_GOOD)


def _echo(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        click.echo(f"{name}: {value}")


if __name__ == "__main__":
    main(prog_name="ndpnet")
