"""How a run looks from outside while it goes on: the nodes that KFP makes of each task."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

import kfp_server_api
from kfp_server_api import V2beta1PipelineTaskDetail

FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class Snapshot:
    """A run at one look: its state, and that of its tasks by name."""

    state: str
    tasks: dict[str, str] = field(default_factory=dict)
    error: str = ""


def nodes_of(run_id: str, name: str, state: str) -> list[V2beta1PipelineTaskDetail]:
    """What KFP shows of one task: a driver, the task, and once it starts the pod that does its work."""
    driver, task, pod = f"{name}-driver-node", f"{name}-node", f"{name}-pod-node"
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, 5, tzinfo=UTC)
    times = {"create_time": start, "start_time": start, "end_time": end if state in FINAL else None}

    def node(display_name: str, node_id: str, node_state: str, *children: str) -> V2beta1PipelineTaskDetail:
        child_tasks = [kfp_server_api.PipelineTaskDetailChildTask(pod_name=child) for child in children]
        detail = V2beta1PipelineTaskDetail(
            run_id=run_id, task_id=str(uuid.uuid4()), display_name=display_name, state=node_state, pod_name=node_id
        )
        detail.child_tasks = child_tasks or None
        for key, value in times.items():
            setattr(detail, key, value)
        return detail

    if state == "PENDING":
        return [node(f"{name}-driver", driver, "RUNNING")]
    found = [node(f"{name}-driver", driver, "SUCCEEDED", task), node(name, task, state, pod)]
    return [*found, node("executor", pod, state)]
