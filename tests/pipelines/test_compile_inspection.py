"""The compiled batch inspection: its structure as it is meant to be, and what KFP's own classes say of it."""

from pathlib import Path

import pytest
from compiled import IMAGE, SECRETS, Compiled
from google.protobuf.json_format import ParseDict
from kfp import components
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from ndpnet.config import load_params
from ndpnet.pipelines.compile import compile_inspection
from ndpnet.pipelines.inspection import inspection_arguments
from ndpnet.pipelines.request import Package

INSPECTION = {
    "root": {"exit-handler-1": [], "report-outcome": ["exit-handler-1"]},
    "comp-exit-handler-1": {"plan-inspection": [], "inspect-shards": ["plan-inspection"]},
    "comp-inspect-shards": {"for-loop-1": [], "summarise-inspection": ["for-loop-1"]},
    "comp-for-loop-1": {"inspect-shard": []},
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    params = load_params(overrides=[f"cluster.image={IMAGE}", "cluster.parallel_shards=5"])
    return Compiled(compile_inspection(params, tmp_path_factory.mktemp("compiled")))


def test_tasks_and_edges(compiled: Compiled) -> None:
    assert compiled.edges() == INSPECTION
    assert compiled.graphs()["comp-inspect-shards"]["for-loop-1"]["iteratorPolicy"] == {"parallelismLimit": 5}
    assert compiled.graphs()["root"]["report-outcome"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_kfps_own_classes_take_it_and_its_arguments(compiled: Compiled, tmp_path: Path) -> None:
    assert ParseDict(compiled.pipeline, PipelineSpec()).pipeline_info.name == "ndpnet-inspection"
    for config in compiled.platforms.values():
        assert ParseDict(config, KubernetesExecutorConfig()).HasField("security_context")
    path = tmp_path / "loaded.yaml"
    path.write_text(compiled.text)
    inputs = components.load_component_from_file(str(path)).component_spec.inputs
    arguments = inspection_arguments("s3://line-1/in", "ndpnet-tile", "s3://line-1/out", num_shards=3)
    assert set(inputs) == set(arguments)
    assert arguments.keys() <= Package(path).parameters.keys()


def test_a_shard_is_reused_for_the_same_plan_and_what_looks_at_the_world_never(compiled: Compiled) -> None:
    cached = compiled.cached_tasks()
    assert {name for name, is_cached in cached.items() if is_cached} == {"inspect-shard"}
    assert set(cached) == {"plan-inspection", "inspect-shard", "summarise-inspection", "report-outcome"}
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
        secrets = compiled.platforms[name]["secretAsEnv"]
        found = {each["secretName"]: [key["envVar"] for key in each["keyToEnv"]] for each in secrets}
        assert found == SECRETS
    assert compiled.platforms["exec-inspect-shard"]["activeDeadlineSeconds"] == "43200"


def test_failed_pods_are_tried_again_each_shard_too(compiled: Compiled) -> None:
    retries = compiled.retries()
    assert retries.keys() == {"plan-inspection", "inspect-shard", "summarise-inspection", "report-outcome"}
    assert set(retries.values()) == {(2, "60s", 2.0)}


def test_shards_on_gpus(tmp_path: Path) -> None:
    overrides = [f"cluster.image={IMAGE}", "cluster.inspect_on_gpu=true", "cluster.node_selector={gpu: h100}"]
    compiled = Compiled(compile_inspection(load_params(overrides=[*overrides, "runtime.devices=2"]), tmp_path))
    for name, executor in compiled.executors.items():
        is_shard = name == "exec-inspect-shard"
        assert executor["container"]["resources"].get("accelerator", {}).get("resourceCount") == (
            "1" if is_shard else None
        )
        assert ("nodeSelector" in compiled.platforms[name]) == is_shard
    device = compiled.graphs()["comp-for-loop-1"]["inspect-shard"]["inputs"]["parameters"]["device"]
    assert device == {"runtimeValue": {"constant": "cuda"}}
