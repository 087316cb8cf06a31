"""The end of a run, however it ended."""

from kfp.dsl import PipelineTaskFinalStatus

from ndpnet.components.base import component


@component
def report_outcome(status: PipelineTaskFinalStatus) -> str:
    """Note how the run ended, and why, in MLflow; tell the webhook, if one is set up. -> its state"""
    from ndpnet.tracking.outcome import Outcome, tell

    return tell(Outcome(state=status.state, job=status.pipeline_job_resource_name, reason=status.error_message or ""))
