"""The command line's verbs for data: import, and the group `data`. Registered in cli.py."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ndpnet.cli_base import FolderPath
from ndpnet.data.importing import MAX_BYTES, TEST_GOOD_SHARE

EXIT_DIFFERS = 3
LAYOUTS = ("mvtec", "dagm", "kolektor", "ppts", "folder")


@click.group("data")
def data_group() -> None:
    """Pin, check and extend the pictures under data/."""


# ---- import


@click.command("import")
@click.argument("layout", metavar="LAYOUT", type=click.Choice(LAYOUTS))
@click.argument("source")
@click.option("--out", type=FolderPath, required=True, help="Folder to write: of the category, or of several.")
@click.option("--category", "categories", multiple=True, help="Take this one of SOURCE only; may be repeated.")
@click.option(
    "--test-good-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=TEST_GOOD_SHARE,
    show_default=True,
    help="Share of the good groups to test on, where the publisher names none.",
)
@click.option("--train-limit", type=click.IntRange(min=1), help="Train on the first N good pictures only, by name.")
@click.option("--group-pattern", default="", help="Regex on file names: what belongs to one part or day.")
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    default=MAX_BYTES,
    show_default=True,
    help="Refuse an archive that expands to more.",
)
@click.option("--endpoint-url", help="S3 server other than AWS, as http://minio:9000.")
def import_command(layout: str, source: str, out: Path, **options: Any) -> None:
    """Bring the pictures of SOURCE into OUT, laid out as every other step expects them.

    SOURCE is a folder, a .tar, .tar.gz, .tar.xz or .zip, or s3://BUCKET/PREFIX. LAYOUT is what it looks like: mvtec
    (also BTAD, VisA), dagm, kolektor, ppts (scans of any size) or folder (good/, defective/ and masks/).
    """
    from ndpnet.data.importing.importer import import_source
    from ndpnet.data.importing.report import report_lines

    reports = import_source(layout, source, out, **options)
    out_dirs = [out] if len(reports) == 1 else [out / report["category"] for report in reports]
    for report, out_dir in zip(reports, out_dirs, strict=True):
        details = f"  written to {out_dir}, all details in {out_dir / 'import.json'}"
        click.echo("\n".join([*report_lines(report), details]))
    _echo_next_commands(layout, reports[0]["group_pattern"], out_dirs)


def _echo_next_commands(layout: str, group_pattern: str | None, out_dirs: list[Path]) -> None:
    data_dir, category = out_dirs[0].parent, out_dirs[0].name
    settings = {"data.mode": "tile"} if layout == "ppts" else {}  # over the profile for one's own pictures
    settings |= {"data.group_pattern": group_pattern} if group_pattern else {}
    overrides = "".join(f" -P {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    prepared = Path("build") / category / "prepared"
    paths = [shlex.quote(str(path)) for path in (data_dir, category, prepared)]
    click.echo(f"next: dvc add {paths[0]}")
    click.echo(
        f"      ndpnet prepare --data {paths[0]} --category {paths[1]} --out {paths[2]} --profile line{overrides}"
    )


# ---- the verbs of the group `data`


@data_group.command("status")
@click.argument("data", type=FolderPath, default=Path("data"))
def data_status(data: Path) -> None:
    """Say which pictures are pinned, and whether they are here. Exit code 3 if they differ."""
    from ndpnet.data.versions.version import read_status

    is_as_pinned, lines = read_status(data)
    click.echo("\n".join(lines))
    sys.exit(0 if is_as_pinned else EXIT_DIFFERS)


@data_group.command("add")
@click.argument("source")
@click.option("--category", required=True, help="Category to add them to.")
@click.option("--data", type=FolderPath, default=Path("data"), show_default=True, help="The pinned folder.")
@click.option(
    "--as", "place", default="train/good", show_default=True, help="Where they belong; else test/TYPE, as test/hole."
)
@click.option("--masks", type=FolderPath, help="Folder with a mask for each defective picture.")
@click.option("--endpoint-url", help="S3 server other than AWS, as http://minio:9000.")
def data_add(source: str, category: str, data: Path, **options: Any) -> None:
    """Add the new pictures of SOURCE to a category, and pin the data.

    SOURCE is a folder, an archive or s3://BUCKET/PREFIX. Pictures that are there already are skipped, good ones that
    are called defective now are moved; if one cannot be read, or is there in another way, nothing is added.
    """
    from ndpnet.data.importing.adding import add_batch

    added = add_batch(source, category, data, **options)
    click.echo(f"{added.num_added} added to {category}/{options['place']}, {added.num_copies} were there already")
    for name, target in added.renamed.items():
        click.echo(f"  {name} is {target} (its name was taken)")
    for path, target in added.moved.items():
        click.echo(f"  {path} is {target} now: a defect by what was said last")
    if not added.changes:
        return click.echo(f"{data}/ is pinned as before")
    click.echo("\n".join(added.changes))
    pin, message = shlex.quote(f"{data}.dvc"), shlex.quote(f"Add pictures to {category}")
    click.echo(f"{data}.dvc pins it now")
    return click.echo(f"next: git commit {pin} -m {message} && dvc push")


@data_group.command("manifest")
@click.argument("data", type=FolderPath)
@click.option("--out", type=FolderPath, required=True, help="File to write, as version.json.")
def data_manifest(data: Path, out: Path) -> None:
    """List every file under DATA with its hash. For a cluster, which fetches the pictures by it."""
    from ndpnet.data.versions.version import version_of

    version = version_of(data)
    version.save(out)
    _echo_identity(version.identity())


@click.command("version-data")
@click.option("--out", type=FolderPath, required=True, help="Folder to write.")
@click.option("--url", help="Git repository that pins the data.")
@click.option("--revision", help="Branch, tag or commit; its default branch if left out.")
@click.option("--path", default="data", show_default=True, help="The pinned folder in that repository.")
@click.option("--prefix", metavar="S3_URL", help="Instead of a repository: where the files lie.")
@click.option("--manifest", help="What `data manifest` wrote, a file or s3://: which of them to take.")
@click.option("--endpoint-url", help="S3 server other than AWS, as http://minio:9000.")
def version_data_command(out: Path, **options: Any) -> None:
    """Write exactly one version of the data to OUT, every file verified by its hash.

    Credentials come from the environment, as AWS_ACCESS_KEY_ID.
    """
    from ndpnet import steps
    from ndpnet.data.versions.version import DataSource

    _echo_identity(steps.version_data(out, DataSource(**options)))


def _echo_identity(identity: dict[str, Any]) -> None:
    from ndpnet.data.versions.version import count_lines

    named = {name: value for name, value in identity.items() if name != "categories" and value is not None}
    lines = [f"{name.removeprefix('num_').replace('_', ' ')}: {value}" for name, value in named.items()]
    click.echo("\n".join([*lines, *count_lines(identity["categories"])]))
