"""How a run looks from outside while it goes on: the nodes that KFP makes of each task."""

import uuid
from dataclasses import dataclass, field

from kfp_server_api import V2beta1PipelineTaskDetail

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class Snapshot:
    """A run at one look: its state, and that of its tasks by name."""

    state: str
    tasks: dict[str, str] = field(default_factory=dict)
    error: str = ""


def nodes_of(name: str, state: str) -> list[V2beta1PipelineTaskDetail]:
    """What KFP shows of one task: a driver, the task, and once it starts the pod that does its work."""

    def node(display_name: str, kind: str, node_state: str) -> V2beta1PipelineTaskDetail:
        names = {"display_name": display_name, "pod_name": f"{name}-{kind}"}
        return V2beta1PipelineTaskDetail(task_id=str(uuid.uuid4()), state=node_state, **names)

    if state == "PENDING":
        return [node(f"{name}-driver", "driver", "RUNNING")]
    return [node(f"{name}-driver", "driver", "SUCCEEDED"), node(name, "task", state), node("executor", "pod", state)]
