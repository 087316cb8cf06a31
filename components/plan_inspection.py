"""Which pictures a batch inspection takes, and by which version of a model."""

from typing import List, NamedTuple  # noqa: UP035 - KFP 2.17 reads typing's generics

from ndpnet.components.base import component


@component
def plan_inspection(
    prefix: str, model: str, out: str, num_shards: int, has_overlays: bool, endpoint_url: str
) -> NamedTuple("Planned", [("shards", List[str]), ("plan_id", str)]):  # noqa: UP006
    """List the pictures and resolve the model once, and store that beside the results. -> the shards, by number"""
    from typing import List, NamedTuple  # noqa: UP035

    from ndpnet.batch.plan import InspectionRequest, make_plan

    plan = make_plan(InspectionRequest(prefix, model, out, num_shards, has_overlays, endpoint_url))
    names = [str(shard) for shard in range(plan.num_shards)]
    return NamedTuple("Planned", [("shards", List[str]), ("plan_id", str)])(names, plan.id)  # noqa: UP006
