"""The end of a run, however it ended."""

from kfp.dsl import PipelineTaskFinalStatus

from ndpnet.components.base import component


@component
def report_outcome(status: PipelineTaskFinalStatus) -> str:
    """Note how the run ended, and why, in MLflow; tell the webhook, if one is set up. -> its state"""
    from ndpnet.tracking.outcome import tell

    return tell(status.state, status.pipeline_job_resource_name, status.error_message or "")
