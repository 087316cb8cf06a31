"""One running station for the tests that only ask it."""

from collections.abc import Iterator

import pytest
from samples import CATEGORY, Pipeline
from stations import config_of, served


@pytest.fixture(scope="module")
def station(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A station and the address of its page; its model is the session's small one."""
    folder = tmp_path_factory.mktemp("station")
    line = {"calibration": str(pipeline.data_dir / CATEGORY)}
    server = {"port": 0, "max_megabytes": 1, "max_megapixels": 1}
    with served(config_of(folder, pipeline.model_dir, wall=line, server=server)) as running:
        yield running
