"""The compiled pipelines: their structure as it is meant to be, and what KFP's own classes say of it."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from compiled import IMAGE, SECRETS, Compiled

from ndpnet.batch.plan import InspectionRequest
from ndpnet.pipelines.compile import PIPELINES
from ndpnet.pipelines.request import Package

UNCACHED = {"version-data", "choose-categories", "register", "promote", "report-outcome", "category-row", "report"}
TRAININGS = {"exec-train-phase1", "exec-train-phase2"}
ALWAYS = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
GPUS = {"resourceCount": "2", "resourceType": "nvidia.com/gpu", "count": "2", "type": "nvidia.com/gpu"}


OVERRIDES = ("runtime.devices=2", "cluster.node_selector={gpu: h100}", "cluster.pull_secrets=[registry]")
OVERRIDES += ("cluster.webhook_secret=ndpnet-webhook",)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled("training", tmp_path_factory.mktemp("compiled"), *OVERRIDES)


def test_kfps_own_classes_take_it(compiled: Compiled) -> None:
    assert {"params", "judging_params", "work_dir", "categories", "source"} <= compiled.inputs_by_kfp()


def test_what_looks_at_the_world_is_never_taken_from_the_cache(compiled: Compiled) -> None:
    assert {name for name, is_cached in compiled.cached_tasks().items() if not is_cached} == UNCACHED


def test_the_cache_key_of_data_is_their_resolved_version(compiled: Compiled) -> None:
    graphs = compiled.graphs()
    prepare = graphs["comp-for-loop-1"]["prepare"]["inputs"]
    assert set(prepare) == {"parameters"}  # an artifact of an uncached task would be new in each run
    assert set(prepare["parameters"]) == {"category", "params", "source"}
    given = graphs["comp-exit-handler-1"]["train-categories"]["inputs"]["parameters"]
    assert given["source"]["taskOutputParameter"] == {"outputParameterKey": "source", "producerTask": "version-data"}
    assert set(graphs["comp-exit-handler-1"]["synthesize"]["inputs"]["parameters"]) == {"params"}
    # what a champion must show reaches the tasks that judge, and no task that trains
    loop, condition = graphs["comp-for-loop-1"], graphs["comp-condition-2"]
    tasks = {name: task["inputs"].get("parameters", {}).get("params") for name, task in (loop | condition).items()}
    judging = {name for name, given in tasks.items() if given and "judging" in str(given)}
    assert judging == {"evaluate", "promote"}
    assert {name for name, given in tasks.items() if given} - judging == {"prepare", "train-phase1", "train-phase2"}
    # nothing names the run: KFP's placeholder as an argument would make each key new
    assert "pipeline_job" not in compiled.text.replace("pipeline_job_resource_name", "")


def test_a_category_is_registered_only_above_the_floor(compiled: Compiled) -> None:
    trigger = compiled.graphs()["comp-for-loop-1"]["condition-2"]["triggerPolicy"]
    assert trigger == {"condition": "inputs.parameter_values['pipelinechannel--evaluate-Output'] == true"}


def test_rows_report_and_outcome_come_whatever_happened(compiled: Compiled) -> None:
    graphs = compiled.graphs()
    at_the_end = {"comp-for-loop-1": "category-row", "comp-train-categories": "report", "root": "report-outcome"}
    assert all(graphs[graph][task]["triggerPolicy"] == ALWAYS for graph, task in at_the_end.items())
    status = graphs["root"]["report-outcome"]["inputs"]["parameters"]["status"]
    assert status == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert graphs["comp-train-categories"]["for-loop-1"]["iteratorPolicy"] == {"parallelismLimit": 4}


def test_all_pods_run_the_projects_image_and_install_nothing(compiled: Compiled) -> None:
    assert {executor["container"]["image"] for executor in compiled.executors.values()} == {IMAGE}
    assert "pip install" not in compiled.text
    for executor in compiled.executors.values():
        variables = {each["name"]: each["value"] for each in executor["container"]["env"]}
        assert variables == {"NDPNET_IMAGE_DIGEST": f"sha256:{'a' * 64}"}


def test_resources_of_pods(compiled: Compiled) -> None:
    for name, executor in compiled.executors.items():
        resources = executor["container"]["resources"]
        assert resources.get("accelerator") == (GPUS if name in TRAININGS else None)
        names = ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit")
        expected = ("4", "8", "16Gi", "32Gi") if name in TRAININGS else ("1", "4", "4Gi", "16Gi")
        assert tuple(resources[each] for each in names) == expected


def test_what_kubernetes_is_told(compiled: Compiled) -> None:
    assert set(compiled.platforms) == set(compiled.executors)
    for name, config in compiled.platforms.items():
        is_training = name in TRAININGS
        assert config["securityContext"] == {"runAsNonRoot": True, "runAsUser": "10001"}
        assert config["activeDeadlineSeconds"] == ("172800" if is_training else "14400")
        assert [secret["secretName"] for secret in config["imagePullSecret"]] == ["registry"]
        assert config["fieldPathAsEnv"] == [
            {"name": "NDPNET_KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]
        assert ("pvcMount" in config) == ("emptyDirMounts" in config) == ("tolerations" in config) == is_training
    training = compiled.platforms["exec-train-phase1"]
    assert training["nodeSelector"] == {"labels": {"gpu": "h100"}}
    assert training["emptyDirMounts"] == [
        {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "4Gi"}
    ]
    assert [(mount["constant"], mount["mountPath"]) for mount in training["pvcMount"]] == [("ndpnet-work", "/work")]


def test_failed_pods_are_tried_again_with_pauses_in_the_loop_too(compiled: Compiled) -> None:
    retries = compiled.retries()
    assert {"version-data", "train-phase1", "train-phase2", "evaluate", "promote", "report"} < retries.keys()
    assert set(retries.values()) == {(2, "60s", 2.0)}


def test_secrets_are_named_and_never_written(compiled: Compiled) -> None:
    webhook = {"ndpnet-webhook": ["NDPNET_WEBHOOK_URL"]}
    for name, found in compiled.secrets().items():
        assert found == SECRETS | (webhook if name == "exec-report-outcome" else {})


def test_the_same_bytes_in_another_process_with_secrets_around(compiled: Compiled, tmp_path: Path) -> None:
    code = "import sys; from ndpnet.cli import main; main(['pipeline', 'compile', *sys.argv[1:]])"
    on_processors = Compiled("inspection", tmp_path / "here", *OVERRIDES)
    assert "nvidia.com" not in on_processors.text
    paths = [compiled.path, on_processors.path]
    assert [path.name for path in paths] == ["ndpnet-training.yaml", "ndpnet-inspection.yaml"]
    secret = {"AWS_SECRET_ACCESS_KEY": "very-secret-key", "MLFLOW_TRACKING_PASSWORD": "very-secret-word"}
    environment = os.environ | secret | {"PYTHONHASHSEED": "7"}
    options = [part for each in (f"cluster.image={IMAGE}", *OVERRIDES) for part in ("-P", each)]
    command = [sys.executable, "-W", "ignore", "-c", code, "--out", str(tmp_path / "there"), *options]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert {path.stem for path in (tmp_path / "there").iterdir()} == set(PIPELINES)
    for path in paths:
        assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()
        assert b"very-secret" not in path.read_bytes()


def test_without_gpu_volume_or_secrets_nothing_of_them_is_asked_for(plain_training: Compiled) -> None:
    for absent in ("nvidia.com", "pvcMount", "secretAsEnv", "retryPolicy", "tolerations"):
        assert absent not in plain_training.text


# ---- the batch inspection


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Shards on GPUs; that processors judge by default is seen in `test_the_same_bytes...`."""
    overrides = ["cluster.inspect_on_gpu=true", "cluster.node_selector={gpu: h100}", "runtime.devices=2"]
    return Compiled("inspection", tmp_path_factory.mktemp("compiled"), "cluster.parallel_shards=5", *overrides)


def test_shards_run_side_by_side_and_the_outcome_comes_whatever_happened(inspection: Compiled) -> None:
    graphs = inspection.graphs()
    assert graphs["comp-inspect-shards"]["for-loop-1"]["iteratorPolicy"] == {"parallelismLimit": 5}
    assert graphs["root"]["report-outcome"]["triggerPolicy"] == ALWAYS
    assert inspection.retries() == dict.fromkeys(inspection.cached_tasks(), (2, "60s", 2.0))


def test_kfps_own_classes_take_an_inspection_and_its_arguments(inspection: Compiled) -> None:
    arguments = asdict(InspectionRequest("s3://line-1/in", "ndpnet-tile", "s3://line-1/out", num_shards=3))
    assert inspection.inputs_by_kfp() == set(arguments)
    assert arguments.keys() <= Package(inspection.path).parameters.keys()


def test_a_shard_is_reused_for_the_same_plan_and_what_looks_at_the_world_never(inspection: Compiled) -> None:
    world = dict.fromkeys(("plan-inspection", "summarise-inspection", "report-outcome"), False)
    assert inspection.cached_tasks() == world | {"inspect-shard": True}
    inputs = inspection.graphs()["comp-for-loop-1"]["inspect-shard"]["inputs"]
    assert set(inputs) == {"parameters"}
    assert set(inputs["parameters"]) == {"out", "plan_id", "shard", "device"}
    given = inspection.graphs()["comp-exit-handler-1"]["inspect-shards"]["inputs"]["parameters"]["plan_id"]
    assert given["taskOutputParameter"] == {"outputParameterKey": "plan_id", "producerTask": "plan-inspection"}


def test_pods_of_an_inspection(inspection: Compiled) -> None:
    for name, executor in inspection.executors.items():
        assert executor["container"]["image"] == IMAGE
        request = executor["container"]["resources"]["resourceCpuRequest"]
        assert request == ("2" if name == "exec-inspect-shard" else "1")
        assert inspection.secrets()[name] == SECRETS
    assert inspection.platforms["exec-inspect-shard"]["activeDeadlineSeconds"] == "43200"


def test_shards_on_gpus(inspection: Compiled) -> None:
    for name, executor in inspection.executors.items():
        count = executor["container"]["resources"].get("accelerator", {}).get("resourceCount")
        assert count == ("1" if name == "exec-inspect-shard" else None)
        assert ("nodeSelector" in inspection.platforms[name]) == (name == "exec-inspect-shard")
    device = inspection.graphs()["comp-for-loop-1"]["inspect-shard"]["inputs"]["parameters"]["device"]
    assert device == {"runtimeValue": {"constant": "cuda"}}
