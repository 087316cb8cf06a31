"""The moves of a champion as a list that only grows, and what follows from it: who is champion, who was before."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Kind = Literal["promote", "force", "rollback"]
TAG = "ndpnet.move."
MAX_REASON = 2000  # characters


@dataclass(frozen=True)
class Move:
    """One entry. It counts only if `source` was the champion when it was entered: of two at once the later is void.
    So is a rollback to another version than the one before.

    number: its place, given by the registry; source: the champion before, None if there was none; when: ISO 8601, UTC;
    run_id, evidence_hash: where promotion.json lies and the hash of its content, empty where nothing was measured;
    token: the caller's own, to find its entry again.
    """

    kind: Kind
    source: int | None
    target: int
    who: str
    when: str
    reason: str = ""
    run_id: str = ""
    evidence_hash: str = ""
    token: str = ""
    number: int = 0

    def to_tags(self) -> dict[str, str]:
        """As tags of an entry in the registry."""
        values = {name: "" if value is None else str(value) for name, value in asdict(self).items() if name != "number"}
        return {f"{TAG}{name}": value for name, value in values.items()}

    @classmethod
    def from_tags(cls, number: int, tags: Mapping[str, str]) -> "Move":
        """The entry with this number. ValueError: it is none, or damaged."""
        values: dict[str, Any] = {name.removeprefix(TAG): text for name, text in tags.items() if name.startswith(TAG)}
        try:
            if values["kind"] not in get_args(Kind):
                raise ValueError(f"kind {values['kind']}")
            source = int(values.pop("source")) if values["source"] else values.pop("source") or None
            return cls(**values | {"source": source, "target": int(values["target"]), "number": number})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"entry {number} is no move: {error!r} (left out)") from error


@dataclass(frozen=True)
class Timeline:
    """What a list of moves amounts to."""

    moves: tuple[Move, ...]
    line: tuple[int, ...]  # champions, each the one to go back to from the next
    void: frozenset[int]  # numbers of the moves that did not count
    withdrawn: frozenset[int]  # versions that were rolled back from, and not forced since

    @property
    def champion(self) -> int | None:
        """The version that production follows."""
        return self.line[-1] if self.line else None

    @property
    def previous(self) -> int | None:
        """The version that a rollback goes back to."""
        return self.line[-2] if len(self.line) > 1 else None

    def has_won(self, token: str) -> bool:
        """Whether a caller's move counts; a repeated request may have entered it twice."""
        return any(move.token == token and move.number not in self.void for move in self.moves)


def replay(moves: Iterable[Move]) -> Timeline:
    """Follow the moves in the order of their numbers. Every reader of the same list comes to the same result."""
    line: list[int] = []
    void, withdrawn = set(), set()
    ordered = tuple(sorted(moves, key=lambda move: move.number))
    for move in ordered:
        is_rollback = move.kind == "rollback"
        if move.source != (line[-1] if line else None) or (is_rollback and move.target not in line[-2:-1]):
            void.add(move.number)
        elif is_rollback:
            withdrawn.add(line.pop())
        else:
            line.append(move.target)
            withdrawn -= {move.target} if move.kind == "force" else set()
    return Timeline(ordered, tuple(line), frozenset(void), frozenset(withdrawn))
