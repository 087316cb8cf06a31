"""DVC with real remotes: `dvc repro` on pinned data, a batch from S3."""

from pathlib import Path

import numpy as np
import pytest
from processes import paths_below
from repositories import CATEGORIES, DVC, NDPNET, Repository, noise, write_small_category
from samples import write_params, write_picture
from servers import S3Server

from ndpnet.data.versions.version import read_status

pytestmark = pytest.mark.slow


def on_server(original: Repository, folder: Path, server: S3Server, bucket: str) -> Repository:
    """A copy whose remote is a bucket of the server."""
    repository = original.copy(folder)
    # DVC refuses a configuration that is no file, and takes none for none
    repository.environment |= server.environment() | {"AWS_CONFIG_FILE": str(folder / "none")}
    repository.set_remote(f"s3://{bucket}/ndpnet data", server.endpoint_url)
    return repository


def test_dvc_repro_prepares_pinned_data_and_holds_no_lock_against_it(repository: Repository, tmp_path: Path) -> None:
    """The check runs in a process that `dvc repro` started: on a fresh clone's data, without DVC's cache."""
    write_params(repository.folder / "params.yaml", data={"group_pattern": ""})
    (repository.folder / "dvc.yaml").write_text(
        "stages:\n  prepare:\n    matrix: {category: [wall, tile]}\n    cmd: >-\n"
        "      ndpnet prepare --data data --category ${item.category}\n"
        "      --out build/${item.category} --params params.yaml\n"
        "    deps: ['data/${item.category}']\n    outs: ['build/${item.category}']\n"
    )
    repository.lose_data()
    for number, category in enumerate(CATEGORIES):
        write_small_category(repository.data_dir / category, seed=number)
    pin = (repository.folder / "data.dvc").read_bytes()
    repository.run(*DVC, "repro")
    for category in CATEGORIES:
        assert "train.npy" in paths_below(repository.folder / "build" / category)
    assert (repository.folder / "data.dvc").read_bytes() == pin


def test_a_batch_from_s3_is_added(original: Repository, s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.make_bucket()
    repository = on_server(original, tmp_path / "repository", s3, bucket)
    rng = np.random.default_rng(5)
    for name in ("a.png", "ü b.png"):
        write_picture(tmp_path / name, noise(rng))
        s3.client().put_object(Bucket=bucket, Key=f"line 3/today/{name}", Body=(tmp_path / name).read_bytes())
    command = (*NDPNET, "data", "add", f"s3://{bucket}/line 3/today", "--category", "wall", "--endpoint-url")
    finished = repository.run(*command, s3.endpoint_url)
    assert finished.stdout.startswith("2 added to wall/train/good, 0 were there already\n  train/good: 12 -> 14\n")
    assert (repository.data_dir / "wall/train/good/ü b.png").read_bytes() == (tmp_path / "ü b.png").read_bytes()
    assert read_status(repository.data_dir).is_as_pinned
    again = repository.run(*command, s3.endpoint_url)
    assert again.stdout.startswith("0 added to wall/train/good, 2 were there already\n")
    assert not [path.name for path in repository.folder.iterdir() if path.name.endswith((".partial", ".adding"))]
