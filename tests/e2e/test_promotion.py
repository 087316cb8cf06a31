"""From registered versions to a champion and back, with real packages, a real test set and real processes."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from processes import Finished
from registered import NAME, register_all, with_threshold
from samples import Pipeline

from ndpnet.cli import main
from ndpnet.files import hash_of
from ndpnet.promotion.table import format_checks, label_of
from ndpnet.tracking.client import connect
from ndpnet.tracking.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tracking_on")]

# what the small model reaches: the gate is to decide by what differs
LOOSE = ("floors={}", "false_alarm_budget=1.0", "false_alarm_bound=point", "max_latency_ratio=20.0")


@pytest.fixture(scope="module")
def prepared_dir(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test set, as if its data was pinned."""
    folder = shutil.copytree(pipeline.prepared_dir, tmp_path_factory.mktemp("pinned") / "prepared")
    settings = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps(settings | {"is_pinned": True}))
    return folder


@pytest.fixture(scope="module")
def filled(pipeline: Pipeline, evaluation_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with four versions: sound, equally sound, blind (nothing is ever defective), made of unpinned data."""
    folder = tmp_path_factory.mktemp("registry")
    made = [(0.4, True), (0.4 + 1e-9, True), (1.0, True), (0.4, False)]
    packages = [
        with_threshold(pipeline.model_dir, folder / str(number), threshold, is_data_pinned=is_pinned)
        for number, (threshold, is_pinned) in enumerate(made)
    ]
    register_all(evaluation_dir, folder, packages)
    return folder


@pytest.fixture
def registry(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry as it was filled."""
    shutil.copyfile(filled / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return Registry(NAME)


def run(*arguments: object) -> Finished:
    """A verb in this process: one of its own takes long."""
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    return Finished(result.exit_code, result.stdout, result.stderr)


def ask(version: int | None, prepared_dir: Path | None, *options: object) -> dict[str, Any]:
    """The promotion.json of a promotion with loose bounds. ValueError: its one line."""
    named = {"--version": version, "--prepared": prepared_dir}
    given = (part for option, value in named.items() if value is not None for part in (option, value))
    bounds = (part for bound in LOOSE for part in ("-P", f"promotion.{bound}"))
    with TemporaryDirectory() as scratch:
        finished = run("promote", NAME, *given, *bounds, "--out", scratch, *options)
        if finished.exit_code not in (0, 3):
            raise ValueError(*finished.error_lines)
        report = json.loads(Path(scratch, "promotion.json").read_text())
    assert finished.stdout == f"{format_checks(report)}\n"
    assert (finished.exit_code == 3) == (report["decision"] == "refused")
    return report


def test_promoted_refused_forced_and_rolled_back(
    registry: Registry, prepared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDPNET_USER", "ada@line1")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*promotion\.json"):
        ask(1, prepared_dir, "--out", tmp_path / "file")
    assert "champion" not in registry.aliases(), "nothing is moved where the report cannot be written"
    first = ask(1, prepared_dir)
    assert (first["decision"], first["champion"], first["blocking"]) == ("promoted", None, [])
    assert registry.aliases() == {"champion": 1}
    assert_is_kept(registry, 1, first)

    refused = ask(3, prepared_dir)
    assert (refused["decision"], refused["champion"]["version"]) == ("refused", 1)
    assert refused["blocking"] == ["recall against champion"]
    assert registry.aliases() == {"champion": 1, "challenger": 3}
    assert registry.version(3).tags["ndpnet.gate"] == "refused"
    assert "REFUSED: recall against champion." in format_checks(refused)
    assert_is_kept(registry, 3, refused)

    forced = ask(None, prepared_dir, "--force", "--reason", "the customer\r\nwants| it")  # the challenger
    assert (forced["decision"], forced["challenger"]["version"], forced["has_passed"]) == ("forced", 3, False)
    assert registry.aliases() == {"champion": 3}
    assert registry.version(3).tags["ndpnet.gate"] == "forced"

    back = run("rollback", NAME, "--reason", "it sees nothing")
    assert (back.exit_code, back.stdout) == (0, f"{NAME}: champion is version 1 again, no longer 3\n")
    assert registry.aliases() == {"champion": 1}
    again = ask(3, prepared_dir)
    assert again["blocking"] == ["not rolled back", "recall against champion"]

    shown = run("history", NAME).stdout
    assert "NOTE" not in shown
    moves = ["promoted", "FORCED", "rolled back"]
    assert all(move in line for move, line in zip(moves, shown.splitlines()[3:6], strict=True))
    assert "ada@line1" in shown
    assert "the customer wants| it" in shown
    assert registry.aliases() == {"champion": 1, "challenger": 3}
    connect().set_model_version_tag(registry.history_name, "1", "ndpnet.move.who", "\x1b[2Jeve\nfalse")
    hostile = run("history", NAME).stdout
    assert ("\x1b" in hostile, len(hostile.splitlines())) == (False, len(shown.splitlines()))


def assert_is_kept(registry: Registry, version: int, report: dict[str, Any]) -> None:
    """promotion.json is in the registry as it was returned, and every check stands in the version's description."""
    client = connect()
    stored = json.loads(mlflow.artifacts.load_text(f"runs:/{report['run_id']}/promotion.json"))
    assert stored == {key: value for key, value in report.items() if key != "run_id"}
    found = registry.version(version)
    assert len(found.description) <= 5000
    assert found.description.startswith(f"# {NAME}\n")
    assert found.description.count("## Promotion") == 1
    for check in report["checks"]:
        assert label_of(check["name"]) in found.description
    assert found.description.endswith(f"{format_checks(report).splitlines()[-1]}\n```\n")
    moves = [move for move in registry.timeline().moves if move.run_id == report["run_id"]]
    assert [move.evidence_hash for move in moves] == [hash_of(stored)] * (report["decision"] != "refused")
    assert client.get_run(report["run_id"]).data.tags["ndpnet.version"] == str(version)


def test_a_table_that_is_too_long_is_cut_at_a_line(
    registry: Registry, prepared_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndpnet.promotion.promote.MAX_TABLE", 300)
    table = format_checks(ask(1, prepared_dir)).splitlines()
    *kept, more, fence = registry.version(1).description.partition("## Promotion\n\n```\n")[2].splitlines()
    assert (kept, fence) == (table[: len(kept)], "```")
    assert more == "... (all of it is in promotion.json of the run)"


def test_an_equal_version_passes_every_check(registry: Registry, prepared_dir: Path) -> None:
    ask(1, prepared_dir)
    report = ask(2, prepared_dir)
    assert report["decision"] == "promoted"
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert verdicts.pop("export parity") == "not applicable"
    assert set(verdicts.values()) == {"pass"}
    assert {"image_auroc against champion", "recall against champion", "latency ratio"} <= verdicts.keys()
    assert ask(2, prepared_dir)["decision"] == "already champion"
    assert len(registry.timeline().moves) == 2


def test_unpinned_data_and_an_unpinned_test_set_are_refused(
    registry: Registry, prepared_dir: Path, pipeline: Pipeline
) -> None:
    assert ask(4, prepared_dir)["blocking"] == ["training data pinned"]
    assert ask(1, pipeline.prepared_dir)["blocking"] == ["test data pinned"]
    assert registry.aliases() == {"challenger": 1}


def test_without_evidence_only_force_moves_the_champion(registry: Registry, prepared_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no test set to judge on"):
        ask(2, None)
    with pytest.raises(ValueError, match="no prepared data in"):
        ask(2, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="in the registry"):
        ask(9, prepared_dir)
    with pytest.raises(ValueError, match="--force and --reason TEXT belong together"):
        ask(3, prepared_dir, "--force")
    report = ask(2, None, "--force", "--reason", "no test pictures yet")
    assert (report["decision"], report["not_judged"][:11]) == ("forced", "no test set")
    assert registry.aliases() == {"champion": 2}
    assert "no champion before version 2" in run("rollback", NAME, "--reason", "x").stderr
