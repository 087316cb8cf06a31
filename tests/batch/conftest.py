"""A registered champion, and a prefix of pictures for each test."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import NAMES, NO_PICTURES, Place
from registered import register_thresholds
from samples import CATEGORY, Pipeline
from servers import S3Server, set_only


@pytest.fixture(scope="session")
def pictures(data_dir: Path) -> list[bytes]:
    """Good and defective ones."""
    paths = sorted((data_dir / CATEGORY / "test").rglob("*.png"))
    return [path.read_bytes() for path in (paths[0], *paths[-6:])]


@pytest.fixture(scope="session")
def registry(pipeline: Pipeline, evaluation_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of three versions: 1 is the champion, 2 finds nothing defective, 3 has no threshold. -> its address"""
    return register_thresholds(pipeline, evaluation_dir, tmp_path_factory.mktemp("registry"), [0.4, 0.99, None])


@pytest.fixture(scope="module")
def services(registry: str, s3: S3Server, tracking_on: None) -> Iterator[None]:
    """S3 and the registry, for this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        set_only(patch, s3.environment() | {"MLFLOW_TRACKING_URI": registry})
        yield


@pytest.fixture(scope="session")
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


@pytest.fixture
def place(s3: S3Server, bucket: str, pictures: list[bytes]) -> Place:
    """Pictures under odd names, and what is none."""
    place = Place(s3, bucket, uuid.uuid4().hex[:8])
    for name, content in zip(NAMES, pictures, strict=True):
        place.put(name, content)
    for name in NO_PICTURES:
        place.put(name, b"x")
    return place
