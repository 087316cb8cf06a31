"""The table of all pictures of a batch inspection."""

from typing import List  # noqa: UP035 - KFP 2.17 reads typing's generics

from kfp.dsl import Metrics, Output

from ndpnet.components.base import component


@component
def summarise_inspection(
    metrics: Output[Metrics],
    out: str,
    plan_id: str,
    shard_seconds: List[float],  # noqa: UP006
    endpoint_url: str,
) -> int:
    """Merge the shards' rows and store table and summary under `out`. -> pictures that could not be inspected"""
    from ndpnet.batch.summary import summarise
    from ndpnet.components.outputs import show_counts

    summary = summarise(out, plan_id, shard_seconds=shard_seconds, endpoint_url=endpoint_url)
    return show_counts(summary, metrics)
