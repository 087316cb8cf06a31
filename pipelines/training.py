"""The training pipeline: version and bank once, then each category from pictures to champion, and a report of all."""

from typing import TYPE_CHECKING, Any, List  # noqa: UP035 - KFP 2.17 reads typing's generics

from kfp import dsl

from ndpnet.components.training import (
    category_row,
    choose_categories,
    evaluate,
    prepare,
    promote,
    register,
    report,
    report_outcome,
    synthesize,
    train_phase1,
    train_phase2,
    version_data,
)
from ndpnet.pipelines.kubernetes import Pods, uncached

if TYPE_CHECKING:
    from ndpnet.config import Params

NAME = "ndpnet-training"


def training_pipeline(settings: "Params", *, is_local: bool = False) -> Any:
    """The graph, with the pods as `settings.cluster` has them; what is computed comes with each run, as `params`,
    and with the bounds of `promotion` as `judging_params`: a change of these trains nothing again.

    is_local: for KFP's local engine, which cannot run a task after one that failed: see `pipelines/local.py`.
    """
    pods, train_categories = Pods(settings), _categories_pipeline(settings, is_local=is_local)

    @dsl.pipeline(name=NAME, description="NDP-Net: from pinned pictures to a judged and registered model per category")
    def pipeline(
        params: str,
        judging_params: str,
        work_dir: str,
        source: str,
        categories: List[str] = [],  # noqa: B006, UP006
        only_new_data: bool = False,
    ) -> None:
        outcome = pods.with_webhook(uncached(pods.small(report_outcome())))
        with dsl.ExitHandler(exit_task=outcome, name="run"):
            resolved = uncached(pods.small(version_data(where=source)))
            version = resolved.outputs["version"]
            asked = {"categories": categories, "only_new_data": only_new_data}
            chosen = uncached(pods.small(choose_categories(version=version, **asked)))
            bank = pods.small(synthesize(params=params)).outputs["bank"]
            train_categories(
                categories=chosen.output,
                source=resolved.outputs["source"],
                version=version,
                bank=bank,
                params=params,
                judging_params=judging_params,
                work_dir=work_dir,
            )

    return pipeline


def _categories_pipeline(settings: "Params", *, is_local: bool) -> Any:
    """All categories, in parallel. A graph of its own: the local engine hands a loop no output of a task before it."""
    pods = Pods(settings)

    def whatever_happened(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return task if is_local else task.ignore_upstream_failure()

    @dsl.pipeline(name="train-categories")
    def train_categories(
        categories: List[str],  # noqa: UP006
        source: str,
        version: dsl.Input[dsl.Dataset],
        bank: dsl.Input[dsl.Dataset],
        params: str,
        judging_params: str,
        work_dir: str,
    ) -> None:
        with dsl.ParallelFor(categories, name="category", parallelism=pods.cluster.parallel_categories) as category:
            prepared = pods.small(prepare(source=source, category=category, params=params)).outputs["prepared"]
            inputs = {"prepared": prepared, "bank": bank, "params": params, "work_dir": work_dir}
            phase1 = pods.training(train_phase1(**inputs)).outputs["phase1"]
            model = pods.training(train_phase2(phase1=phase1, **inputs)).outputs["model"]
            judged = pods.small(evaluate(prepared=prepared, model=model, params=judging_params))
            row = category_row(category=category, summary=judged.outputs["summary"])
            whatever_happened(uncached(pods.small(row)))
            with dsl.If(judged.outputs["Output"] == True, name="passes-floor"):  # noqa: E712 - KFP's syntax
                evidence = {"evaluation": judged.outputs["evaluation"], "prepared": prepared, "version": version}
                registered = uncached(pods.small(register(model=model, **evidence)))
                named = {"name": registered.outputs["name"], "version": registered.outputs["number"]}
                uncached(pods.small(promote(prepared=prepared, **named, params=judging_params)))
        whatever_happened(uncached(pods.small(report(categories=categories, rows=dsl.Collected(row.output)))))

    return train_categories
