"""One shard of a batch inspection."""

from ndpnet.components.base import component


@component
def inspect_shard(out: str, plan_id: str, shard: str, device: str, endpoint_url: str) -> float:
    """Inspect the shard's pictures; overlays and rows go to `out`. -> seconds"""
    from ndpnet.batch import shard as shards

    return shards.inspect_shard(out, plan_id, int(shard), device=device, endpoint_url=endpoint_url)
