"""The compiled batch inspection: its structure as it is meant to be, and what KFP's own classes say of it."""

from dataclasses import asdict
from pathlib import Path

import pytest
from compiled import IMAGE, SECRETS, Compiled

from ndpnet.batch.plan import InspectionRequest
from ndpnet.pipelines.request import Package


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled("inspection", tmp_path_factory.mktemp("compiled"), "cluster.parallel_shards=5")


def test_shards_run_side_by_side_and_the_outcome_comes_whatever_happened(compiled: Compiled) -> None:
    assert compiled.graphs()["comp-inspect-shards"]["for-loop-1"]["iteratorPolicy"] == {"parallelismLimit": 5}
    assert compiled.graphs()["root"]["report-outcome"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert compiled.retries() == dict.fromkeys(compiled.cached_tasks(), (2, "60s", 2.0))


def test_kfps_own_classes_take_it_and_its_arguments(compiled: Compiled) -> None:
    arguments = asdict(InspectionRequest("s3://line-1/in", "ndpnet-tile", "s3://line-1/out", num_shards=3))
    assert compiled.inputs_by_kfp() == set(arguments)
    assert arguments.keys() <= Package(compiled.path).parameters.keys()


def test_a_shard_is_reused_for_the_same_plan_and_what_looks_at_the_world_never(compiled: Compiled) -> None:
    world = dict.fromkeys(("plan-inspection", "summarise-inspection", "report-outcome"), False)
    assert compiled.cached_tasks() == world | {"inspect-shard": True}
    inputs = compiled.graphs()["comp-for-loop-1"]["inspect-shard"]["inputs"]
    assert set(inputs) == {"parameters"}
    assert set(inputs["parameters"]) == {"out", "plan_id", "shard", "device", "endpoint_url"}
    given = compiled.graphs()["comp-exit-handler-1"]["inspect-shards"]["inputs"]["parameters"]
    assert given["plan_id"]["taskOutputParameter"] == {
        "outputParameterKey": "plan_id",
        "producerTask": "plan-inspection",
    }


def test_pods(compiled: Compiled) -> None:
    for name, executor in compiled.executors.items():
        assert executor["container"]["image"] == IMAGE
        assert "accelerator" not in executor["container"]["resources"]
        request = executor["container"]["resources"]["resourceCpuRequest"]
        assert request == ("2" if name == "exec-inspect-shard" else "1")
        assert compiled.secrets()[name] == SECRETS
    assert compiled.platforms["exec-inspect-shard"]["activeDeadlineSeconds"] == "43200"


def test_shards_on_gpus(tmp_path: Path) -> None:
    overrides = ["cluster.inspect_on_gpu=true", "cluster.node_selector={gpu: h100}", "runtime.devices=2"]
    compiled = Compiled("inspection", tmp_path, *overrides)
    for name, executor in compiled.executors.items():
        count = executor["container"]["resources"].get("accelerator", {}).get("resourceCount")
        assert count == ("1" if name == "exec-inspect-shard" else None)
        assert ("nodeSelector" in compiled.platforms[name]) == (name == "exec-inspect-shard")
    device = compiled.graphs()["comp-for-loop-1"]["inspect-shard"]["inputs"]["parameters"]["device"]
    assert device == {"runtimeValue": {"constant": "cuda"}}
