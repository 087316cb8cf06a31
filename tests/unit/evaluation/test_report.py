"""The report: complete, self-contained, escaped, deterministic, and honest where something is missing."""

import base64
import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndpnet.evaluation import report
from ndpnet.evaluation.cases import embed_image
from ndpnet.metrics.intervals import rate_interval
from ndpnet.metrics.threshold import percent_of

CHROMIUM = "/usr/bin/chromium"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects what a browser would see: tags, addresses, text; checks that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name.split(":")[-1] in {"src", "href", "srcset"}]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "title", "script"}:
            self.text += data


def rate(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def threshold_record(**changes: Any) -> dict[str, Any]:
    record = {"value": 0.5, "target_rate": 0.01, "guaranteed_rate": 0.01, "num_units": 120, "num_images": 240}
    record |= {"promised_rates": [[0.25, 0.5], [0.5, 0.01]], "unit_rate": 0.07}
    return {**record, "units_needed": 99, "statement": "At most 1.0 % of good parts are flagged.", **changes}


def full_summary(**changes: Any) -> dict[str, Any]:
    unknown = {"image_auroc": None, "pixel_auroc": None, "pro_auc": None}
    by_type = {
        "crack": {"count": 30, "recall": rate(0.9, 0.8, 0.98), "recall_overlap": rate(0.8, 0.7, 0.9), **unknown},
        "pore <b>": {"count": 10, "recall": rate(0.7, 0.4, 0.9), "recall_overlap": None, **unknown},
    }
    return {
        "category": "wood", "num_good": 400, "num_defective": 40, "has_masks": True,
        "image_auroc": rate(0.9876, 0.97, 0.995), "pixel_auroc": rate(0.95, 0.94, 0.96), "pro_auc": rate(0.9, 0.8, 1.0),
        "f1": rate(0.88, 0.8, 0.9), "precision": rate(0.92, 0.85, 0.97), "recall": rate(0.85, 0.735, 0.95),
        "recall_overlap": rate(0.625, 0.46, 0.77), "false_alarm_rate": rate(0.0075, 0.0, 0.0175),
        "confusion": {"true_positive": 34, "false_positive": 3, "true_negative": 397, "false_negative": 6},
        "by_defect_type": by_type, "threshold": threshold_record(), "notes": ["a note & more"], **changes,
    }  # fmt: skip


def empty_summary() -> dict[str, Any]:
    nothing = dict.fromkeys([*report.METRICS, "confusion", "threshold"])
    return full_summary(**nothing, num_good=0, has_masks=False, by_defect_type={}, notes=["no good test image"])


def scores_and_labels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.beta(2, 8, 400), rng.beta(7, 3, 40)]), np.arange(440) >= 400


def noise_picture(seed: int, height: int, width: int) -> dict[str, Any]:
    return embed_image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def history(num_steps: int = 200) -> list[dict[str, float]]:
    rows = [
        {"step": step, "loss": 2.0 / (1 + step), "focal_term": 1.0 / (1 + step), "lr": 1e-4}
        for step in range(num_steps)
    ]
    return [*rows, {"step": 100, "validation/image_auroc": 0.8}, {"step": 199, "validation/image_auroc": 0.9}]


def small_picture(title: str, score: float, verdict: str) -> dict[str, Any]:
    picture = {"uri": "data:image/jpeg;base64,AAAA", "width": 9, "height": 9}
    return picture | {"title": title, "score": score, "verdict": verdict, "type": "pore <i>", "truth": "defective"}


def write(out_path: Path, **changes: Any) -> str:
    scores, labels = scores_and_labels()
    ramp = np.linspace(0, 1, 1000)
    given = {
        "summary": full_summary(), "curves": {"roc": (ramp, ramp**0.1), "pro": (0.3 * ramp, ramp**0.2)},
        "scores": scores, "labels": labels,
        "history": {"phase1": history(), "phase2": history()},
        "panels": [{"title": "a <i>&\"'.png", "score": 0.25, "verdict": "missed", **noise_picture(0, 40, 60)}],
        "calibration": [
            {"title": "part7 <b>.png", "score": 0.5, "value_without": 0.375, **noise_picture(1, 40, 60)},
            {"title": "elsewhere.png", "score": 0.375, "value_without": None, "uri": None},
        ],
        "identity": {"commit": "abc123", "reference image": "good/<1>.png"}, "warnings": ["No perceptual loss: <none>"],
        "faults": [],
        "typical": [
            {"title": "b.png", "type": "pore <i>", "score": 0.9, "verdict": "found", **noise_picture(2, 40, 60)},
        ],
        "gallery": [small_picture("a <i>&\"'.png", 0.25, "missed"), small_picture("b.png", 0.9, "found")],
        "facts": {"tested": "2026-11-28"}, "smallest": None, "champion": None,
    }  # fmt: skip
    report.write_report(out_path, **given | changes)
    return out_path.read_text(encoding="utf-8")


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds."""
    names = ("roc", "pro", "scores", "scores_narrow", "phase1", "phase2")
    monkeypatch.setattr(report, "draw_charts", lambda _: dict.fromkeys(names))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("report") / "report.html")


def test_page_is_well_formed_and_reaches_nothing_outside(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert page.tags.count("svg") == 6  # the scores twice: for a wide screen, and for a narrow one
    assert {"link", "iframe", "object"}.isdisjoint(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert page.addresses
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not re.search(r"https?://|//\w+\.\w|@import|\burl\((?!#)", re.sub(r"base64,[\w+/=]+", "", html))
    assert {address[1:] for address in page.addresses if address[0] == "#"} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(page.ids)


def test_no_script_runs_but_the_page_s_own(html: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html
    (data,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', html, re.DOTALL)
    page = json.loads(data)
    assert [page["scores"], page["truths"]] == [values.tolist() for values in scores_and_labels()]
    assert (page["threshold"], page["promised"]) == (0.5, [[0.25, 0.5], [0.5, 0.01]])


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium on this machine (apt-get install chromium)")
def test_the_script_counts_many_images_and_keeps_what_is_promised_of_units(tmp_path: Path, no_charts: None) -> None:
    scores = np.repeat([0.4, 0.6], [62_500, 137_500])
    write(tmp_path / "report.html", scores=scores, labels=scores > 0)
    command = [CHROMIUM, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path}", "--dump-dom"]
    url = (tmp_path / "report.html").as_uri()
    shown = Page(subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout).text
    assert f"62500 of 200000 ({percent_of(62_500 / 200_000)})" in shown, "31.2 or 31.3"
    assert "at most 1.0 % of images, 7.0 % of units" in shown


def test_every_image_is_in_the_gallery_and_leads_to_its_case(html: str) -> None:
    assert html.count("data-truth=") == 2
    assert '<a href="#case-0"><img' in html  # the one that is a case
    assert '<option value="">all verdicts</option><option>missed</option><option>found</option>' in html


def test_warnings_come_first_then_the_answers_and_typical_finds_before_the_failures(html: str) -> None:
    text = Page(html).text
    order = [
        "No perceptual loss: <none>",
        "Does it find defects?",
        "A typical find",
        "pore <i>",
        "Misses, false alarms",
    ]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert "With care" in text
    assert "1 warning above." in text


@pytest.mark.usefixtures("no_charts")
def test_without_defective_images_artificial_ones_say_what_is_found(tmp_path: Path) -> None:
    kinds = [{"name": "Spot", "rows": [(0.1, [0, 2]), (0.4, [1, 3])]}]
    smallest = {"sentence": "Smallest: a spot of 8 px.", "sizes": [4, 8], "num_images": 3, "kinds": kinds}
    summary = full_summary(num_defective=0, recall=None, image_auroc=None, by_defect_type={})
    text = Page(write(tmp_path / "report.html", smallest=smallest, summary=summary)).text
    assert "Tested on artificial ones" in text
    assert "The model flagged 3 of 400 good images (0.8 %) by mistake; no defective image was tested." in text
    assert text.count("Smallest: a spot of 8 px.") == 2
    cells = text.partition("contrast4 px8 px")[2].split()
    assert cells[:4] == ["10", "%02", "40", "%13"]


def test_figures_stand_with_one_decimal_and_their_interval(html: str) -> None:
    text = Page(html).text
    figures = ["98.8 % (97.0–99.5)", "85.0 % (73.5–95.0)", "0.8 % (0.0–1.8)", "34 of 40 found", "3 of 400 good images"]
    for figure in figures:
        assert figure in text
    assert "The model flagged 34 of 40 defective images (85.0 %) and, by mistake, 3 of 400 good ones (0.8 %)." in text
    assert "At most 1.0 % of good parts are flagged." in text
    assert text.index("pore <b>") < text.index("crack")  # the harder type first
    assert "abc123" in text
    assert "a note & more" in text


def test_special_characters_are_escaped(html: str) -> None:
    assert "a <i>&\"'.png" in Page(html).text
    assert "a <i>" not in html
    assert "good/<1>.png" in Page(html).text
    assert "<none>" not in html
    assert 'alt="a &lt;i&gt;&amp;&#34;&#39;.png: missed"' in html


@pytest.mark.usefixtures("no_charts")
def test_parts_that_do_nothing_are_red_and_come_first(tmp_path: Path) -> None:
    written = write(tmp_path / "report.html", faults=["The repair is <idle>."])
    assert '<li class="wrong">The repair is &lt;idle&gt;.</li>' in written
    assert written.index("The repair is") < written.index("No perceptual loss")
    assert "2 warnings above." in Page(written).text


def test_nothing_known_still_gives_a_report(tmp_path: Path) -> None:
    nothing = {"curves": {"roc": None, "pro": None}, "history": {}, "identity": {}}
    nothing |= {"panels": [], "calibration": [], "warnings": [], "faults": [], "typical": [], "gallery": []}
    nothing |= {"scores": np.zeros(0), "labels": np.zeros(0, dtype=bool)}
    given = {**nothing, "summary": empty_summary()}
    first, second = (write(tmp_path / name, **given) for name in ("a.html", "b.html"))
    assert first == second  # the same input, the same bytes
    page = Page(first)
    assert page.tags.count("svg") == 2
    assert page.tags.count("img") == 0
    assert page.text.count("n/a") >= len(report.METRICS) + 2
    assert "no good test image" in page.text
    assert "No threshold was calibrated: no false-alarm rate is promised." in page.text
    assert "hangs on" not in page.text
    assert "<h2>Every test image</h2>" not in first


def trust(*warnings: str, **changes: Any) -> tuple[str, str]:
    answer = report.answers(full_summary(**changes), warnings)[2]
    return answer["answer"], " ".join(answer["details"])


def test_trust_follows_from_promise_and_counts() -> None:
    assert trust()[0] == "Yes"
    assert trust("w")[0] == "With care"
    answer, details = trust(threshold=threshold_record(num_units=30, guaranteed_rate=1 / 31))
    assert answer == "With care"
    assert "Only 30 independent good units set the threshold: they promise 3.2 %; 99 are needed" in details
    few = threshold_record(num_units=3000, units_needed=9999, guaranteed_rate=1 / 3001)
    assert "they promise 0.033 %" in trust(threshold=few)[1], "a small rate is not none"
    answer, details = trust(num_good=367)
    assert answer == "With care"
    assert "at least 368" in details  # of as many without a false alarm the interval ends at 1 %
    assert rate_interval(np.zeros(368, dtype=bool), np.arange(368))[1] == pytest.approx(0.01, rel=1e-2)
    assert trust(num_good=368)[0] == "Yes"
    of_few_units = rate(0.0, *rate_interval(np.zeros(400, dtype=bool), [*"abcde"] * 80))
    assert "at least 368 independent ones" in trust(false_alarm_rate=of_few_units)[1]
    answer, details = trust(false_alarm_rate=rate(0.05, 0.02, 0.08))
    assert answer == "No"
    assert "beyond chance" in details
    assert "agrees" not in details
    # the promise is a mean over calibrations: one in fourteen has a rate of 2.5 %
    assert "agrees" in trust(false_alarm_rate=rate(0.025, 0.012, 0.045))[1]


def test_no_event_seen_is_not_reported_as_impossible() -> None:
    confusion = {"true_positive": 40, "false_positive": 0, "true_negative": 400, "false_negative": 0}
    zero, one = rate(0.0, 0.0, 0.031), rate(1.0, 0.912, 1.0)
    summary = full_summary(confusion=confusion, false_alarm_rate=zero, recall=one)
    found, alarms, _ = report.answers(summary, [])
    assert found["details"] == [
        "None missed among 40; the true rate may still be up to 8.8 %.",
        "62.5 % found in place: the mark touches the defect.",
    ]
    assert alarms["details"][0] == "None seen among 400; the true rate may still be up to 3.1 %."


def test_guessing_is_said() -> None:
    answer = report.answers(full_summary(image_auroc=rate(0.55, 0.48, 0.62)), [])[0]
    assert answer["level"] == "bad"
    assert "no better than guessing" in answer["details"][-1]
