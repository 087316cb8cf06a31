"""Whether a model is worth registering at all, by its own numbers: the gate decides the rest."""

from collections.abc import Mapping
from typing import Any

from ndpnet.config import Params, parse_params
from ndpnet.config_platform import promotion_of


def passes_floor(summary: Mapping[str, Any], params: Params | str) -> bool:
    """Whether each metric with a floor (`promotion.floors`) that the test set could tell reaches it, and one could.

    summary: what `evaluate` returns.
    """
    floors = promotion_of(parse_params(params)).floors
    measured = {name: summary[name]["value"] for name in floors if summary.get(name) is not None}
    return not floors or (bool(measured) and all(value >= floors[name] for name, value in measured.items()))
