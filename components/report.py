"""All categories of a run on one page."""

from typing import List  # noqa: UP035 - KFP 2.17 reads typing's generics

from kfp.dsl import HTML, Metrics, Output

from ndpnet.components.base import component


@component
def report(
    page: Output[HTML],
    means: Output[Metrics],
    categories: List[str] = [],  # noqa: UP006, B006 - a task that ignores failures before it needs defaults
    rows: List[str] = [],  # noqa: UP006, B006
) -> int:
    """A table of all categories, the failed ones too. -> how many failed"""
    from ndpnet.components.outputs import write_report

    return write_report(page, means, categories, rows)
