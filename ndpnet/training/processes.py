"""Which processes train: this one, those that it starts on this machine, or those that torchrun started on every node.

torchrun says in the environment what it started: its protocol, read here and nowhere else.
"""

import os
from typing import Any

LAUNCHED = "TORCHELASTIC_RUN_ID"


def is_first_process() -> bool:
    """Whether this process writes what a step leaves: all do but the other ones that torchrun started."""
    return LAUNCHED not in os.environ or int(os.environ["RANK"]) == 0


def fabric_processes(num_processes: int) -> dict[str, Any]:
    """How Fabric gets `num_processes`, on all nodes together. ValueError if torchrun started another number of them."""
    if LAUNCHED not in os.environ:
        return {"devices": num_processes, "strategy": "auto" if num_processes == 1 else "ddp_spawn"}
    started, per_node = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if started != num_processes:
        raise ValueError(
            f"torchrun started {started} processes, but runtime.devices is {num_processes} "
            f"(pass -P runtime.devices={started})"
        )
    strategy = "auto" if num_processes == 1 else "ddp"
    return {"devices": per_node, "num_nodes": started // per_node, "strategy": strategy}
