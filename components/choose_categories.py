"""Which categories this run trains."""

from typing import List  # noqa: UP035 - KFP 2.17 reads typing's generics

from kfp.dsl import Dataset, Input

from ndpnet.components.base import component


@component
def choose_categories(version: Input[Dataset], categories: List[str], only_new_data: bool) -> List[str]:  # noqa: UP006
    """Those asked for, else all there are; with `only_new_data` those whose pictures their champion does not know."""
    from ndpnet import steps

    return steps.choose_categories(version.path, categories, only_new_data=only_new_data)
