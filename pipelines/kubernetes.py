"""All that Kubernetes is told about a task, in one place: resources, secrets by name, volumes, retries, its user."""

from typing import TYPE_CHECKING

from kfp import kubernetes
from kfp.dsl import PipelineTask

if TYPE_CHECKING:
    from ndpnet.config import Params
    from ndpnet.config_platform import PodConfig

S3_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
MLFLOW_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
WEBHOOK_VARIABLE = "NDPNET_WEBHOOK_URL"
RUN_ID_VARIABLE, RUN_ID_LABEL = "NDPNET_KFP_RUN_ID", "metadata.labels['pipeline/runid']"  # the API server's label


class Pods:
    """The pods of a pipeline, as `params.cluster` and `params.runtime` have them."""

    def __init__(self, params: "Params") -> None:
        from ndpnet.config_platform import cluster_of

        self.cluster, self.runtime = cluster_of(params), params.runtime

    def small(self, task: PipelineTask) -> PipelineTask:
        """A task that needs no GPU."""
        return self._common(task, self.cluster.other_pod)

    def training(self, task: PipelineTask) -> PipelineTask:
        """A training: GPUs, shared memory between its processes, the volume that keeps its checkpoints."""
        self._common(task, self.cluster.training_pod)
        if self.runtime.accelerator != "cpu":
            self._on_gpus(task, self.runtime.devices)
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=self.cluster.shm_size)
        if self.cluster.work_pvc:
            kubernetes.mount_pvc(task, self.cluster.work_pvc, self.cluster.work_dir)
        return task

    def inspection(self, task: PipelineTask) -> PipelineTask:
        """A shard of a batch inspection: one GPU, or none."""
        self._common(task, self.cluster.inspection_pod)
        if self.cluster.inspect_on_gpu:
            self._on_gpus(task, 1)
        return task

    def with_webhook(self, task: PipelineTask) -> PipelineTask:
        """A task that knows the address to tell how the run ended."""
        if self.cluster.webhook_secret:
            kubernetes.use_secret_as_env(task, self.cluster.webhook_secret, {WEBHOOK_VARIABLE: WEBHOOK_VARIABLE})
        return task

    def _on_gpus(self, task: PipelineTask, num_gpus: int) -> None:
        task.set_accelerator_type(self.cluster.gpu_resource).set_accelerator_limit(num_gpus)
        for key, value in self.cluster.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        for toleration in self.cluster.tolerations:
            kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))

    def _common(self, task: PipelineTask, pod: "PodConfig") -> PipelineTask:
        cluster = self.cluster
        task.set_container_image(cluster.image)
        task.set_cpu_request(pod.cpu_request).set_cpu_limit(pod.cpu_limit)
        task.set_memory_request(pod.memory_request).set_memory_limit(pod.memory_limit)
        for secret, variables in ((cluster.s3_secret, S3_VARIABLES), (cluster.mlflow_secret, MLFLOW_VARIABLES)):
            if secret:
                kubernetes.use_secret_as_env(task, secret, {name: name for name in variables})
        # by the pod's label: an argument would be part of KFP's cache key, and nothing would ever be reused
        kubernetes.use_field_path_as_env(task, RUN_ID_VARIABLE, RUN_ID_LABEL)
        if "@" in cluster.image:
            task.set_env_variable("NDPNET_IMAGE_DIGEST", cluster.image.partition("@")[2])
        if cluster.pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(cluster.pull_secrets))
        kubernetes.set_image_pull_policy(task, "IfNotPresent")
        kubernetes.set_security_context(task, run_as_user=cluster.run_as_user, run_as_non_root=True)
        kubernetes.set_timeout(task, pod.timeout_seconds)
        if cluster.num_retries:
            task.set_retry(cluster.num_retries, backoff_duration=f"{cluster.backoff_seconds}s")
        return task


def uncached(task: PipelineTask) -> PipelineTask:
    """A task that looks at the world, or changes it: KFP's cache key does not know the world."""
    return task.set_caching_options(False)
