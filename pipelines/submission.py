"""From a compiled pipeline to a run: a named version, an experiment, a run; each made once, however often asked."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.client import Cluster, ClusterError, filter_by_name
from pipelines.package import Package, to_messages

if TYPE_CHECKING:
    import kfp_server_api

REQUEST = "request "  # in the description of a run: what it was asked by

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool


@dataclass(frozen=True)
class Submitted:
    """A run on the server, and where people see it."""

    run_id: str
    url: str
    is_new: bool


def upload_version(cluster: Cluster, package: Package, name: str) -> Version:
    """Have a package on the server as version `name` of its pipeline. ValueError: another package has this name."""
    pipeline_id = find_pipeline(cluster, package.name) or _create_pipeline(cluster, package.name)
    found = _find_version(cluster, pipeline_id, name)
    is_new = found is None
    if found is None:
        found = _upload(cluster, package, pipeline_id, name)
    if messages_of(found) != package.messages:
        raise ValueError(
            f"version {name} of pipeline {package.name} is another package (commit what has changed, or choose another "
            "name with --version-name)"
        )
    return Version(pipeline_id, found.pipeline_version_id, name, is_new)


def find_or_create_experiment(cluster: Cluster, name: str) -> str:
    """The experiment of this name. -> its id"""
    from kfp_server_api import V2beta1Experiment

    def find() -> str | None:
        return find_experiment(cluster, name)

    def create(**options: Any) -> str:
        experiment = V2beta1Experiment(display_name=name, namespace=cluster.namespace or None)
        call = cluster.client.experiments.experiment_service_create_experiment
        return call(experiment, **options).experiment_id

    return find() or _create(cluster, create, find)


def create_run(
    cluster: Cluster,
    version: Version,
    *,
    experiment_id: str,
    job_name: str,
    arguments: Mapping[str, Any],
    request_id: str,
    service_account: str = "",
) -> Submitted:
    """Start a run. One with the same job name and request is not started a second time."""
    from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig

    description = f"{REQUEST}{request_id}"

    def find() -> "kfp_server_api.V2beta1Run | None":
        options = {"experiment_id": experiment_id, "filter": filter_by_name(job_name)}
        runs = cluster.pages(cluster.client.runs.run_service_list_runs, "runs", **options)
        return next((run for run in runs if run.description == description), None)

    def create(**options: Any) -> "kfp_server_api.V2beta1Run":
        run = V2beta1Run(
            experiment_id=experiment_id,
            display_name=job_name,
            description=description,
            pipeline_version_reference=V2beta1PipelineVersionReference(version.pipeline_id, version.version_id),
            runtime_config=V2beta1RuntimeConfig(parameters=dict(arguments)),
            service_account=service_account or None,
        )
        return cluster.client.runs.run_service_create_run(run, **options)

    earlier = find()
    run = earlier or cluster.tell_or_find(create, find)
    return Submitted(run.run_id, cluster.url_of("runs", run.run_id), earlier is None)


def find_experiment(cluster: Cluster, name: str) -> str | None:
    """Id of an experiment; None where there is none."""
    call = cluster.client.experiments.experiment_service_list_experiments
    options = {"filter": filter_by_name(name)} | ({"namespace": cluster.namespace} if cluster.namespace else {})
    found = [each for each in cluster.pages(call, "experiments", **options) if each.display_name == name]
    return found[0].experiment_id if found else None


def find_pipeline(cluster: Cluster, name: str) -> str | None:
    """Id of a pipeline; None where there is none."""
    call = cluster.client.pipelines.pipeline_service_get_pipeline_by_name
    try:
        return cluster.ask(call, name, **_namespace(cluster)).pipeline_id
    except ClusterError as error:
        if error.status == 404:
            return None
        raise


def messages_of(version: "kfp_server_api.V2beta1PipelineVersion") -> tuple[Any, Any]:
    """What a version on the server runs, in KFP's own form."""
    spec = version.pipeline_spec or {}
    if "pipeline_spec" in spec:  # with Kubernetes options there are two documents
        return to_messages(spec["pipeline_spec"], spec.get("platform_spec", {}))
    return to_messages(spec, {})


def versions_of(cluster: Cluster, pipeline_id: str, **options: str) -> "list[kfp_server_api.V2beta1PipelineVersion]":
    """Versions of a pipeline."""
    call = cluster.client.pipelines.pipeline_service_list_pipeline_versions
    return list(cluster.pages(call, "pipeline_versions", pipeline_id=pipeline_id, **options))


def _find_version(cluster: Cluster, pipeline_id: str, name: str) -> "kfp_server_api.V2beta1PipelineVersion | None":
    found = versions_of(cluster, pipeline_id, filter=filter_by_name(name))
    return next((each for each in found if each.display_name == name), None)


def _create_pipeline(cluster: Cluster, name: str) -> str:
    from kfp_server_api import V2beta1Pipeline

    def create(**options: Any) -> str:
        # without a package: its first version would take the pipeline's name, not the commit's
        pipeline = V2beta1Pipeline(name=name, display_name=name, namespace=cluster.namespace or None)
        return cluster.client.pipelines.pipeline_service_create_pipeline(pipeline, **options).pipeline_id

    return _create(cluster, create, lambda: find_pipeline(cluster, name))


def _upload(cluster: Cluster, package: Package, pipeline_id: str, name: str) -> Any:
    def create(**options: Any) -> Any:
        call = cluster.client.pipeline_uploads.upload_pipeline_version
        return call(str(package.path), name=name, display_name=name, pipelineid=pipeline_id, **options)

    return _create(cluster, create, lambda: _find_version(cluster, pipeline_id, name))


def _create(cluster: Cluster, create: Any, find: Any) -> Any:
    """Make something whose name the server keeps unique: whoever else makes it at the same time makes the same."""
    try:
        return cluster.tell_or_find(create, find)
    except ClusterError as error:
        found = find() if error.status == 409 else None
        if found is None:
            raise
        return found


def _namespace(cluster: Cluster) -> dict[str, str]:
    return {"namespace": cluster.namespace} if cluster.namespace else {}
