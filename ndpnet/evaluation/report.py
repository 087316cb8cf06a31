"""The report for people: one HTML file, readable offline, that says what the figures mean and how far to trust them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ndpnet import files
from ndpnet.evaluation import charts
from ndpnet.evaluation.judging import VERDICTS
from ndpnet.metrics.intervals import clopper_pearson
from ndpnet.metrics.summary import HEADLINE
from ndpnet.metrics.threshold import percent_of
from ndpnet.templates import render

CONFIDENCE = 0.95
LEVEL_WORDS = {"ok": "Yes", "care": "With care", "bad": "No"}
MEANINGS = {
    "image_auroc": "share of the pairs (one defective, one good image) ranked in the right order",
    "pixel_auroc": "the same for pairs of one defective and one sound pixel",
    "pro_auc": "how completely each defect is marked, a small one counting as much as a large one",
    "recall": "defects found: share of the defective images that the threshold flags",
    "recall_overlap": "found in place: the same, if what the threshold marks also touches the defect; needs masks",
    "precision": "alarms that are right: share of the flagged images that are defective, in this test set's mix",
    "f1": "balance of recall and precision",
    "false_alarm_rate": "share of the good images that the threshold flags",
}
METRICS = {name: (HEADLINE[name], meaning) for name, meaning in MEANINGS.items()}
OF_TYPE = ("recall", "recall_overlap", "image_auroc", "pixel_auroc", "pro_auc")
TEMPLATE = "report.html.j2"

Summary = Mapping[str, Any]
Interval = Mapping[str, float] | None


def write_report(out_path: Path, **content: Any) -> None:
    """Write the report as one HTML file.

    content: summary: of metrics.json; curves, roc and pro; scores, labels: (N,), bool (N,); history of each phase;
    identity, and facts for the line below the title: texts by name; warnings, faults (parts of the model that do
    nothing): sentences; panels: {title, score, verdict, uri, width, height}, calibration (good images of the
    threshold) with value_without, uri may be None; typical (one find per type) with type; gallery with truth and type;
    smallest: what `smallest_found` returns; champion: version, sentence, metrics, None where they cannot be compared.
    """
    summary = content["summary"]
    anchors = {panel["title"]: f"case-{number}" for number, panel in enumerate(content["panels"])}
    derived = {
        "lead": lead_sentence(summary),
        "threshold": summary["threshold"],
        "answers": answers(summary, [*content["faults"], *content["warnings"]], content["smallest"]),
        "charts": draw_charts(content),
        "types": _types_worst_first(summary["by_defect_type"]),
        "cases": [{**panel, "anchor": anchors[panel["title"]]} for panel in content["panels"]],
        "gallery": [{**picture, "anchor": anchors.get(picture["title"])} for picture in content["gallery"]],
        "verdicts": [name for name in VERDICTS if any(each["verdict"] == name for each in content["gallery"])],
        "page": _page_data(content),
    }
    values = content | derived | {"metrics": METRICS, "of_type": OF_TYPE}
    html = render("evaluation", TEMPLATE, {"percent": percent, "rate": percent_of}, **values)
    files.write_text(out_path, html)


def percent(interval: Interval, *, with_interval: bool = True) -> str:
    """Format a rate: "89.1 % (79.3–94.2)", or "n/a" where it is not known."""
    if interval is None:
        return "n/a"
    value = f"{100 * interval['value']:.1f} %"
    return f"{value} ({100 * interval['low']:.1f}–{100 * interval['high']:.1f})" if with_interval else value


def lead_sentence(summary: Summary) -> str:
    """Say the result in one plain sentence."""
    confusion = summary["confusion"]
    if confusion is None:
        if summary["image_auroc"] is None:
            return "No threshold is set and no ranking could be measured: this test set does not say whether it works."
        ranking = percent(summary["image_auroc"], with_interval=False)
        return (
            f"No threshold is set, so no image was judged; {ranking} of the pairs (defective, good) are ranked right."
        )
    num_found, false = confusion["true_positive"], confusion["false_positive"]
    recall = percent(summary["recall"], with_interval=False)
    false_alarms = percent(summary["false_alarm_rate"], with_interval=False)
    if not summary["num_defective"]:
        flagged = f"{false} of {summary['num_good']} good images ({false_alarms})"
        return f"The model flagged {flagged} by mistake; no defective image was tested."
    return (
        f"The model flagged {num_found} of {summary['num_defective']} defective images ({recall}) and, "
        f"by mistake, {false} of {summary['num_good']} good ones ({false_alarms})."
    )


def answers(
    summary: Summary, warnings: Sequence[str], smallest: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Answer the first screen's three questions; each {question, answer, level, rate, details}."""
    doubts = reasons_for_doubt(summary, warnings)
    level = "bad" if any(is_grave for is_grave, _ in doubts) else "care" if doubts else "ok"
    trust: dict[str, Any] = {
        "question": "Can these numbers be trusted?",
        "answer": LEVEL_WORDS[level],
        "level": level,
        "rate": None,
        "details": [reason for _, reason in doubts] or ["Enough good images set the threshold and tested it."],
    }
    if _keeps_promise(summary):
        trust["details"].append("The false-alarm rate seen agrees with the rate promised.")
    return [_detection_answer(summary, smallest), _false_alarm_answer(summary), trust]


def reasons_for_doubt(summary: Summary, warnings: Sequence[str]) -> list[tuple[bool, str]]:
    """List why the figures deserve care, as (is it grave, sentence); empty when nothing speaks against them."""
    doubts = []
    if summary["num_good"] == 0:
        doubts.append((True, "No good image in the test set: the false-alarm rate was not checked."))
    if summary["num_defective"] == 0:
        doubts.append((True, "No defective image in the test set: whether defects are found was not checked."))
    if summary["threshold"] is None:
        doubts.append((True, "No threshold was calibrated: no false-alarm rate is promised."))
    else:
        doubts += _doubts_about_promise(summary)
    if warnings:
        doubts.append((False, "1 warning above." if len(warnings) == 1 else f"{len(warnings)} warnings above."))
    return doubts


def draw_charts(content: Mapping[str, Any]) -> dict[str, Markup | None]:
    """Draw every chart that has data; name -> SVG, None for the others."""
    recall, false_alarms = content["summary"]["recall"], content["summary"]["false_alarm_rate"]
    point = (false_alarms["value"], recall["value"]) if recall and false_alarms else None
    threshold = content["summary"]["threshold"]
    value = None if threshold is None else float(threshold["value"])
    roc, pro = content["curves"].get("roc"), content["curves"].get("pro")
    scores, labels = np.asarray(content["scores"]), np.asarray(content["labels"], dtype=bool)
    drawn = {
        "roc": charts.roc_chart(roc, operating_point=point) if roc is not None else None,
        "pro": charts.pro_chart(pro) if pro is not None else None,
        "scores": charts.score_chart(scores, labels, threshold=value),
        "scores_narrow": charts.score_chart(scores, labels, threshold=value, is_narrow=True),
    }
    for phase in ("phase1", "phase2"):
        history = content["history"].get(phase)
        drawn[phase] = charts.loss_chart(history, name=phase) if history else None
    return {name: None if svg is None else Markup(svg) for name, svg in drawn.items()}  # our own SVG: not escaped


def _page_data(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script computes with."""
    record = content["summary"]["threshold"] or {}
    return {
        "threshold": record.get("value"),
        "scores": [float(score) for score in content["scores"]],
        "truths": [int(label) for label in content["labels"]],
        "promised": record.get("promised_rates", []),
    }


def _unanswered(question: str) -> dict[str, Any]:
    return {"question": question, "answer": "n/a", "level": "plain", "rate": None, "details": []}


def _detection_answer(summary: Summary, smallest: Mapping[str, Any] | None) -> dict[str, Any]:
    confusion, auroc = summary["confusion"], summary["image_auroc"]
    answer = _unanswered("Does it find defects?")
    if confusion is not None and summary["num_defective"]:
        missed = confusion["false_negative"]
        answer["answer"] = f"{confusion['true_positive']} of {summary['num_defective']} found"
        answer["rate"] = summary["recall"]
        answer["details"] = [
            f"{missed} missed."
            if missed
            else _none_seen("None missed", summary["num_defective"], 1 - summary["recall"]["low"])
        ]
        if summary["recall_overlap"] is not None:
            in_place = percent(summary["recall_overlap"], with_interval=False)
            answer["details"].append(f"{in_place} found in place: the mark touches the defect.")
    elif auroc is not None:
        answer["answer"] = f"{percent(auroc, with_interval=False)} ranked right"
        answer["rate"] = auroc
        answer["details"] = ["Without a threshold only the order of the scores can be judged."]
    elif smallest is not None:
        answer["answer"] = "Tested on artificial ones"
        answer["details"] = [smallest["sentence"], "No real defect was tested: the test set has none."]
    else:
        answer["details"] = ["Not measured: it takes both good and defective test images."]
    if auroc is not None and auroc["low"] <= 0.5:
        answer["level"] = "bad"
        answer["details"].append("The image ROCAUC may be 50 %: no better than guessing.")
    return answer


def _false_alarm_answer(summary: Summary) -> dict[str, Any]:
    confusion, good = summary["confusion"], summary["num_good"]
    answer = _unanswered("At which false-alarm rate?")
    promised = (summary["threshold"] or {}).get("guaranteed_rate")
    if confusion is not None and good:
        false = confusion["false_positive"]
        answer["answer"] = f"{false} of {good} good images"
        answer["rate"] = summary["false_alarm_rate"]
        answer["scale"] = _round_scale([promised, *(answer["rate"] or {}).values()])
        answer["details"] = [] if false else [_none_seen("None seen", good, summary["false_alarm_rate"]["high"])]
    else:
        answer["details"] = [
            "Not measured: no threshold." if confusion is None else "Not measured: no good test image."
        ]
    if promised is not None:
        answer["mark"] = promised
        answer["details"].append(f"Promised: at most {percent_of(promised)} on average (red mark).")
        answer["level"] = "bad" if _keeps_promise(summary) is False else answer["level"]
    return answer


def _keeps_promise(summary: Summary) -> bool | None:
    """Whether the false-alarm rate seen agrees with the rate promised, but for chance; None: no rate was seen."""
    seen, threshold = summary["false_alarm_rate"], summary["threshold"]
    if seen is None:
        return None
    promised, num_units = threshold["guaranteed_rate"], threshold["num_units"]
    # a mean over calibrations: this one left promised * (num_units + 1) - 1 of its own units above the threshold
    highest = clopper_pearson(promised * (num_units + 1) - 1, num_units)[1]
    chance = math.hypot(seen["value"] - seen["low"], highest - promised)  # of both, as Newcombe joins two intervals
    return bool(seen["value"] - promised <= chance)


def _round_scale(rates: Sequence[float | None]) -> float:
    widest = 1.25 * max((rate for rate in rates if rate is not None and math.isfinite(rate)), default=1.0)
    return next((end for end in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if end >= widest), 1.0)


def _none_seen(words: str, total: int, highest_rate: float) -> str:
    return f"{words} among {total}; the true rate may still be up to {percent_of(highest_rate)}."


def _doubts_about_promise(summary: Summary) -> list[tuple[bool, str]]:
    good, seen, threshold = summary["num_good"], summary["false_alarm_rate"], summary["threshold"]
    target = threshold["target_rate"]
    doubts = []
    if threshold["num_units"] < threshold["units_needed"]:
        units = f"Only {threshold['num_units']} independent good units set the threshold"
        promise = f"they promise {percent_of(threshold['guaranteed_rate'])}; {threshold['units_needed']} are needed"
        doubts.append((False, f"{units}: {promise} to promise {percent_of(target)}."))
    if _keeps_promise(summary) is False:
        finding = "More false alarms than promised, beyond chance: the test images differ from the calibration images"
        doubts.append((True, f"{finding} (light, camera, material?). Find out why first."))
    needed = math.ceil(math.log((1.0 - CONFIDENCE) / 2) / math.log1p(-target))  # as the interval beside it
    # many images of few units say as little as few images: without a false alarm the interval tells
    if 0 < good < needed or (seen is not None and seen["value"] == 0 and seen["high"] > target):
        takes = f"To confirm {percent_of(target)} takes at least {needed} independent ones"
        doubts.append((False, f"Good test images: {good}. {takes}."))
    return doubts


def _types_worst_first(by_type: Mapping[str, Summary]) -> list[tuple[str, Summary]]:
    def badness(item: tuple[str, Summary]) -> tuple[float, str]:
        known = item[1]["recall"] or item[1]["image_auroc"]
        return (known["value"] if known else math.inf, item[0])

    return sorted(by_type.items(), key=badness)
