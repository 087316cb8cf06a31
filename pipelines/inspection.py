"""The batch inspection: a prefix of pictures on S3, the champion, and in parallel shards the results back to S3."""

from typing import TYPE_CHECKING, Any, List  # noqa: UP035 - KFP 2.17 reads typing's generics

from kfp import dsl

from ndpnet.components.inspection import inspect_shard, plan_inspection, summarise_inspection
from ndpnet.components.training import report_outcome
from ndpnet.pipelines.kubernetes import Pods, uncached

if TYPE_CHECKING:
    from ndpnet.config import Params

NAME = "ndpnet-inspection"


def inspection_pipeline(settings: "Params") -> Any:
    """The graph, with the pods as `settings.cluster` has them; what is inspected comes with each run."""
    pods, inspect_shards = Pods(settings), _shards_pipeline(settings)

    @dsl.pipeline(name=NAME, description="NDP-Net: pictures on S3 to verdicts, overlays and a summary on S3")
    def pipeline(
        prefix: str,
        model: str,
        out: str,
        num_shards: int = 1,
        has_overlays: bool = True,
    ) -> None:
        outcome = pods.with_webhook(uncached(pods.small(report_outcome())))
        with dsl.ExitHandler(exit_task=outcome, name="run"):
            asked = {"prefix": prefix, "model": model, "num_shards": num_shards, "has_overlays": has_overlays}
            planned = uncached(pods.small(plan_inspection(**asked, out=out)))
            shards, plan_id = planned.outputs["shards"], planned.outputs["plan_id"]
            inspect_shards(shards=shards, plan_id=plan_id, out=out)

    return pipeline


def _shards_pipeline(settings: "Params") -> Any:
    """All shards, in parallel. A graph of its own: the local engine hands a loop no output of a task before it."""
    pods = Pods(settings)
    device = "cuda" if pods.cluster.inspect_on_gpu else "cpu"

    @dsl.pipeline(name="inspect-shards")
    def inspect_shards(shards: List[str], plan_id: str, out: str) -> None:  # noqa: UP006
        where = {"out": out, "plan_id": plan_id}
        with dsl.ParallelFor(shards, name="shard", parallelism=pods.cluster.parallel_shards) as shard:
            inspected = pods.inspection(inspect_shard(shard=shard, device=device, **where))
        uncached(pods.small(summarise_inspection(parts=dsl.Collected(inspected.output), **where)))

    return inspect_shards
