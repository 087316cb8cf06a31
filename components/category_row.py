"""One category's line of the final report; it is written whether the category succeeded or not."""

from ndpnet.components.base import component


@component
def category_row(category: str = "", summary: str = "") -> str:
    """A row of the report from what `evaluate` gave, or one that says that it did not come so far."""
    from ndpnet.components.outputs import row_of

    return row_of(category, summary)
