"""The site is built strictly: what leads nowhere or needs a network ends the build; equations come out as MathML."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from documents import ROOT

MKDOCS = ROOT / ".venv-docs/bin/mkdocs"
SPOILT = {
    "README.md": "[gone](docs/gone.md)",
    "docs/data.md": "[gone](../ndpnet/gone.py)",
    "docs/export.md": "[gone](data.md#gone)",
    "benchmarks/README.md": "![far away](https://example.com/far.png)",
}


@dataclass(frozen=True)
class Build:
    """How a build ended, what it said, and the site that it left."""

    exit_code: int
    log: str
    site_dir: Path


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A copy of the documentation in which four pages have something wrong, built."""
    if not MKDOCS.exists():
        pytest.skip("no .venv-docs: `make docs` makes it")
    folder = tmp_path_factory.mktemp("documentation")
    for tree in ("docs", "ndpnet", "deploy", "benchmarks"):
        shutil.copytree(ROOT / tree, folder / tree, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("README.md", "mkdocs.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    for name, text in SPOILT.items():
        (folder / name).write_text(f"{(folder / name).read_text()}\n{text}\n")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [MKDOCS, "build", "--strict"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return Build(done.returncode, done.stderr, folder / "build/site")


def test_links_that_lead_nowhere_and_pictures_from_elsewhere_end_the_build(spoilt: Build) -> None:
    assert spoilt.exit_code == 1
    assert "README.md links to docs/gone.md, which does not exist" in spoilt.log
    assert "docs/data.md links to ndpnet/gone.py, which does not exist" in spoilt.log
    assert "'data.md' does not contain an anchor '#gone'" in spoilt.log
    assert "the site needs a network: measurements.html loads https://example.com/far.png\n" in spoilt.log
    assert spoilt.log.count("WARNING") == 5  # both links are refused twice


def test_equations_are_mathml_and_files_of_the_repository_are_pages(spoilt: Build) -> None:
    method = (spoilt.site_dir / "method.html").read_text()
    assert method.count('<div class="equation"><math') >= 15
    assert "arithmatex" not in method
    assert "$" not in method.partition("<article")[2].partition("</article>")[0]
    assert 'href="source/ndpnet/losses.py.html"' in method
    index = (spoilt.site_dir / "index.html").read_text()
    assert 'href="measurements.html"' in index
    assert 'href="source/ndpnet/params.yaml.html"' in index
    assert "checkpoint_seconds" in (spoilt.site_dir / "source/ndpnet/params.yaml.html").read_text()
