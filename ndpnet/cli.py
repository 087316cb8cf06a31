"""The command line: one verb per step, and those for people. The only place that prints."""

import logging
import os
from collections import Counter
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ndpnet import __version__
from ndpnet.cli_base import MODEL, PACKAGE, FolderPath, end_by_verdicts, end_interrupted, folder_option
from ndpnet.cli_data import data_group, import_command, version_data_command
from ndpnet.cli_registry import download, history, promote, register, reproduce, rollback
from ndpnet.cli_station import station
from ndpnet.cli_steps import engine_options, evaluate, export, prepare, speed, synthesize, train_phase1, train_phase2
from ndpnet.cli_upkeep import doctor, gc, tracking_group
from ndpnet.commands import end_with_parent

# verbs of the adapters, which this library does not import, by the package that has them; benchmark: in a clone alone
ADAPTERS = {
    "ndpnet.pipelines": EntryPoint("pipeline", "ndpnet.pipelines.cli:pipeline_group", "ndpnet"),
    "ndpnet.benchmark": EntryPoint("benchmark", "ndpnet.benchmark.cli:benchmark", "ndpnet"),
}
RESUMABLE = ("quick", "train-phase1", "train-phase2", "benchmark", "inspect", "reproduce", "pipeline")
MAX_SENTENCE = 160  # characters
RATE = click.FloatRange(0, 1, min_open=True, max_open=True)

SECTIONS = {
    "Start": ("quick", "demo-data", "doctor"),
    "Data": ("import", "data", "version-data"),
    "Train": ("prepare", "synthesize", "train-phase1", "train-phase2"),
    "Judge": ("evaluate", "benchmark"),
    "Use": ("inspect", "station", "calibrate", "export", "speed"),
    "Registry": ("register", "promote", "rollback", "history", "download", "reproduce"),
    "Kubeflow": ("pipeline",),
    "Upkeep": ("tracking", "gc"),
}


class OneLineErrors(click.Group):
    """Turns what a user can cause into one line and exit code 1; anything else is a bug and keeps its traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all verbs."""
        return sorted({*super().list_commands(ctx), *_adapters_verbs()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb by its name."""
        command = super().get_command(ctx, cmd_name)
        return command or (verb.load() if (verb := _adapters_verbs().get(cmd_name)) else None)

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
            goes_on = ": the same command goes on where this one was" if ctx.invoked_subcommand in RESUMABLE else ""
            end_interrupted(f"stopped{goes_on}")
        except (click.exceptions.Exit, click.Abort):  # RuntimeErrors of click's own: --help of a verb
            raise
        except ModuleNotFoundError as error:
            if ctx.params.get("debug") or str(error.name).startswith("ndpnet"):
                raise
            fix = "pip install 'ndpnet[train]'; for Kubeflow 'ndpnet[pipeline]'"
            raise click.ClickException(f"{error.name} is not installed ({fix})") from error
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            text = str(error) if str(error) or not isinstance(error, MemoryError) else "not enough memory"
            raise click.ClickException(" ".join(text.split())) from error


def _adapters_verbs() -> dict[str, EntryPoint]:
    return {verb.name: verb for package, verb in ADAPTERS.items() if find_spec(package)}


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Surface defect inspection learnt from good pictures alone (NDP-Net)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    logging.captureWarnings(True)
    if "DVC_STAGE" in os.environ:
        end_with_parent()  # a killed DVC's next run would meet it at work


DATA_VERBS = (import_command, data_group, version_data_command)
REGISTRY_VERBS = (register, download, promote, rollback, history, reproduce)
STEPS = (prepare, synthesize, train_phase1, train_phase2, evaluate)
for command in (*DATA_VERBS, *STEPS, *REGISTRY_VERBS, tracking_group, export, speed, doctor, gc, station):
    main.add_command(command)


@main.command("demo-data")
@click.argument("out", type=FolderPath)
def demo_data(out: Path) -> None:
    """Write demo pictures (brick, grass, gravel) under OUT, to try everything without pictures of your own."""
    from ndpnet.data.demo import make_demo_data

    for category, counts in make_demo_data(out).items():
        click.echo(f"{category}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


@main.command("quick")
@click.option("--out", type=FolderPath, default=Path("build/quick"), show_default=True, help="Folder to write to.")
def quick_command(out: Path) -> None:
    """Train a small model on demo pictures and inspect one of them, in a minute: to see that everything works."""
    from ndpnet.quick import quick

    picture, verdict = quick(out)
    click.echo(f"{picture}: {verdict}\ndrawn: {out / 'verdict.png'}; model: {out / 'model'}")
    click.echo("It was trained for seconds: `make demo` trains a useful one, and reports on it.")


@main.command("calibrate")
@click.argument("model", type=MODEL)
@click.argument("good_images", type=FolderPath)
@folder_option("--out", "Model package to write.")
@click.option(
    "--group-pattern",
    help='Regex on file names: what belongs to one part or day. "": each picture alone.  [default: the model\'s]',
)
@click.option(
    "--false-alarm-rate", "target_rate", type=RATE, help="Promise at most this rate, as 0.01; else the model's."
)
@click.option(
    "--review-rate", type=RATE, help="Add the verdict review: share of good pictures for a person; else the model's."
)
@click.option("--roi", "roi_path", type=FolderPath, help="Picture, white where to inspect: for another camera.")
@click.option("--rules", "rules_path", type=FolderPath, help="Zones and the smallest defect, as YAML: docs/station.md.")
def calibrate(model: Path, good_images: Path, out: Path, **options: Any) -> None:
    """Fit the threshold of MODEL anew on GOOD_IMAGES: another lamp or camera needs no training."""
    from ndpnet.data.versions.version import is_pinned
    from ndpnet.inference.calibration import calibrate as refit

    record = refit(model, good_images, out, is_pinned=is_pinned(good_images), **options)
    click.echo(f"threshold {record['value']:.4f} from {record['num_images']} images\n{record['statement']}")
    if "review" in record:
        click.echo(f"review from {record['review']['value']:.4f} on. {record['review']['statement']}")
    click.echo("the highest scores, and the threshold without that picture (look at them: is each really good?):")
    for image in record["highest"]:
        without = "none" if image["value_without"] is None else f"{image['value_without']:.4f}"
        click.echo(f"  {image['score']:.4f}  {without}  {image['path']}")
    click.echo(f"Written to {out}")


@main.command("inspect")
@click.argument("target", metavar="IMAGE_OR_FOLDER", type=FolderPath)
@PACKAGE
@folder_option("--out", "Folder for index.html, predictions.csv, predictions.jsonl and overlays/.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Instead of the model's own, without its promise.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Write a picture of each verdict.")
@engine_options
def inspect(target: Path, model: Path, out: Path, threshold: float | None, overlays: bool, **engine: Any) -> None:
    """Tell good pictures from defective ones with a trained model.

    Exit code 0: all good, 3: some defective, 4: none defective and some for a person to look at (`ndpnet calibrate
    --review-rate`), 1: an error, or a file without a verdict.

    A run that was killed, or that filled the disk, goes on where it was: the same command again.
    """
    from ndpnet.inference.folder import inspect_folder
    from ndpnet.inference.inspector import Inspector

    inspector = Inspector.load(model, threshold=threshold, **engine)
    counts = inspect_folder(inspector, target, out, with_overlays=overlays)
    for_review = "" if inspector.review_threshold is None else f"{counts['review']} for review, "
    by_hand = "" if threshold is None else ", given by hand: no false-alarm rate is guaranteed"
    click.echo(
        f"{counts['good']} good, {counts['defective']} defective, {for_review}{_without_verdict(counts)} "
        f"(threshold {inspector.threshold:.4f}{by_hand}); results in {out}, to look at: {out / 'index.html'}"
    )
    end_by_verdicts(num_failed=counts["error"], num_defective=counts["defective"], num_review=counts["review"])


def _without_verdict(counts: Counter[str]) -> str:
    """What else the last line counts."""
    failed, missing = counts["error"], counts["missing"]
    about = f" ({failed - missing} unreadable, {missing} missing)" if failed else ""
    skipped = f", {counts['skipped']} skipped (no pictures)" if counts["skipped"] else ""
    return f"{failed} not judged{about}{skipped}" + (f", {counts['unlike']} with a warning" if counts["unlike"] else "")
