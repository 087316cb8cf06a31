"""The components of a batch inspection: which pictures and model, a shard of them, the table of all."""

from typing import List, NamedTuple  # noqa: UP035 - KFP 2.17 reads typing's generics

from ndpnet.components.base import component


@component
def plan_inspection(prefix: str, model: str, out: str, num_shards: int, has_overlays: bool) -> NamedTuple(
    "Planned",
    [("shards", List[str]), ("plan_id", str)],  # noqa: UP006
):
    """List the pictures and resolve the model once, and store that beside the results. -> the shards, by number"""
    from typing import List, NamedTuple  # noqa: UP035

    from ndpnet.batch.plan import InspectionRequest, make_plan

    plan = make_plan(InspectionRequest(prefix, model, out, num_shards, has_overlays))
    names = [str(shard) for shard in range(plan.num_shards)]
    return NamedTuple("Planned", [("shards", List[str]), ("plan_id", str)])(names, plan.id)  # noqa: UP006


@component
def inspect_shard(out: str, plan_id: str, shard: str, device: str) -> str:
    """Inspect the shard's pictures; overlays and rows go to `out`. -> name of the rows"""
    from ndpnet.batch import shard as shards

    return shards.inspect_shard(out, plan_id, int(shard), device=device)


@component
def summarise_inspection(out: str, plan_id: str, parts: List[str]) -> int:  # noqa: UP006
    """Merge the shards' rows and store table and summary under `out`. -> pictures that could not be inspected

    parts: names of these rows, which it waits for.
    """
    from ndpnet.batch.summary import summarise

    return summarise(out, plan_id)["num_failed"]
