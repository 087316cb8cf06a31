"""Promotion and history as plain text for a terminal."""

import shlex
from collections.abc import Mapping
from typing import Any

from ndpnet.metrics.summary import HEADLINE
from ndpnet.table import format_rows
from ndpnet.tracking.moves import Move, Timeline

WORDS = {"promote": "promoted", "force": "FORCED", "rollback": "rolled back"}


def format_checks(report: Mapping[str, Any]) -> str:
    """promotion.json as a table: every check with number, bound and verdict, then what was decided and why."""
    challenger, champion = report["challenger"], report["champion"]
    against = "no champion yet" if champion is None else f"champion version {champion['version']}"
    rows = [("check", "number", "bound", "verdict", "")]
    rows += [
        (label_of(check["name"]), _number(check["number"]), _number(check["bound"]), _verdict(check), check["sentence"])
        for check in report["checks"]
    ]
    title = f"{report['name']} version {challenger['version']}, {against}"
    return "\n".join([title, *(format_rows(rows) if report["checks"] else []), *_conclusion(report)])


def format_history(name: str, timeline: Timeline, aliases: Mapping[str, int]) -> str:
    """Every move, oldest first, and where the champion is."""
    if not timeline.moves:
        return f"{name}: no move yet"
    rows: list[tuple[str, ...]] = [("move", "when", "who", "", "from", "to", "evidence", "reason")]
    rows += [_move_row(move, is_void=move.number in timeline.void) for move in timeline.moves]
    lines = [name, *format_rows(rows), f"champion: version {timeline.champion}"]
    if timeline.previous is not None:
        lines.append(f"a rollback goes back to version {timeline.previous}")
    if aliases.get("champion") != timeline.champion:
        lines.append(
            f"NOTE: the alias champion is on version {aliases.get('champion', 'none')}: a move was cut short, or the "
            f"alias was set by hand (`ndpnet promote {shlex.quote(name)} --version {timeline.champion}` puts it right)"
        )
    return "\n".join(lines)


def label_of(name: str) -> str:
    """The name of a check as people read it: of metrics, what reports call them."""
    metric, space, rest = name.partition(" ")
    return HEADLINE.get(metric, metric) + space + rest


def _conclusion(report: Mapping[str, Any]) -> list[str]:
    blocking = ", ".join(map(label_of, report["blocking"]))
    sentences = {
        "promoted": "PROMOTED: every check is passed.",
        "refused": f"REFUSED: {blocking}.",
        "already champion": "Already the champion: nothing to move.",
        "forced": f"FORCED: {report.get('reason')}" + (f" (against: {blocking})" if blocking else ""),
    }
    problem = report.get("not_judged")
    return [*([f"not judged: {problem}"] if problem else []), sentences[report["decision"]]]


def _verdict(check: Mapping[str, Any]) -> str:
    word = check["verdict"].upper() if check["verdict"] == "fail" else check["verdict"]
    return f"{word}, blocks" if check["is_blocking"] and check["verdict"] != "fail" else word


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _move_row(move: Move, *, is_void: bool) -> tuple[str, ...]:
    word = f"{WORDS[move.kind]}, void: another move was first" if is_void else WORDS[move.kind]
    source = "" if move.source is None else str(move.source)
    evidence = f"run {move.run_id}" if move.run_id else "none"
    return (str(move.number), move.when, move.who, word, source, str(move.target), evidence, move.reason)
