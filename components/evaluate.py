"""The model on the test images."""

from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output, OutputPath

from ndpnet.components.base import component


@component
def evaluate(
    prepared: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    report: Output[HTML],
    summary: OutputPath(str),
    params: str,
) -> bool:
    """Judge the test images; summary: the metrics as JSON. -> whether they pass the floors: worth registering"""
    from ndpnet import tracked_steps
    from ndpnet.components.outputs import show_evaluation
    from ndpnet.config_platform import promotion_of
    from ndpnet.promotion.gate import passes_floors

    judged = tracked_steps.evaluate(prepared.path, model.path, evaluation.path, params)
    show_evaluation(evaluation.path, judged, metrics, roc, report, summary)
    return passes_floors(judged, promotion_of(params))
