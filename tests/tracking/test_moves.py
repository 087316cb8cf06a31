"""What a list of moves amounts to, whoever wrote into it at the same time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpnet.tracking.moves import Move, replay


def moves(*entries: tuple[str, int | None, int]) -> list[Move]:
    """Moves with numbers from 1."""
    return [
        Move(kind, source, target, "ada", "2026-01-01T00:00:00Z", number=number, token=f"t{number}")
        for number, (kind, source, target) in enumerate(entries, start=1)
    ]


def test_rollbacks_go_back_one_champion_each() -> None:
    entries = [("promote", None, 1), ("promote", 1, 2), ("promote", 2, 5), ("rollback", 5, 2)]
    timeline = replay(moves(*entries))
    assert (timeline.champion, timeline.previous, timeline.withdrawn) == (2, 1, {5})
    timeline = replay(moves(*entries, ("rollback", 2, 1)))
    assert (timeline.champion, timeline.previous, timeline.withdrawn) == (1, None, {2, 5})
    timeline = replay(moves(*entries, ("promote", 2, 6)))
    assert (timeline.champion, timeline.previous) == (6, 2)
    assert replay(moves(*entries, ("promote", 2, 5))).withdrawn == {5}, "only force forgives"
    timeline = replay(moves(*entries, ("force", 2, 5)))
    assert (timeline.champion, timeline.withdrawn) == (5, frozenset())


def test_of_two_from_the_same_champion_the_later_is_void() -> None:
    timeline = replay(moves(("promote", None, 1), ("promote", 1, 3), ("promote", 1, 2), ("promote", 3, 4)))
    assert (timeline.champion, timeline.void, timeline.line) == (4, {3}, (1, 3, 4))
    assert [timeline.has_won(f"t{number}") for number in (1, 2, 3, 4, 5)] == [True, True, False, True, False]


def test_two_rollbacks_at_once_go_back_once() -> None:
    timeline = replay(moves(("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3), *[("rollback", 3, 2)] * 2))
    assert (timeline.champion, timeline.void) == (2, {5})


def test_a_rollback_goes_to_the_version_that_it_names_or_nowhere() -> None:
    line = (("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 2), ("rollback", 2, 1))
    timeline = replay(moves(*line, ("force", 1, 3), ("rollback", 3, 2)))  # the last was decided on before the others
    assert (timeline.line, timeline.void) == ((1, 3), {7})


def test_a_move_survives_its_tags() -> None:
    for bare in moves(("promote", None, 1), ("force", 1, 2)):
        move = replace(bare, reason="a|b\nc ü", run_id="r", evidence_hash="h")
        assert Move.from_tags(move.number, move.to_tags() | {"other": "x"}) == move
    for tags in (
        {},
        {"ndpnet.move.kind": "promote"},
        moves(("promote", 1, 2))[0].to_tags() | {"ndpnet.move.kind": "x"},
        moves(("promote", 1, 2))[0].to_tags() | {"ndpnet.move.target": "x"},
    ):
        with pytest.raises(ValueError, match="entry 7 is no move"):
            Move.from_tags(7, tags)


@given(st.lists(st.tuples(st.none() | st.integers(1, 4), st.integers(1, 4)), max_size=12))
def test_the_champion_is_always_one_that_a_move_put_there(entries: list[tuple[int | None, int]]) -> None:
    listed = moves(*[("promote", source, target) for source, target in entries])
    timeline = replay(reversed(listed))
    champion = None
    for move in listed:
        if move.number not in timeline.void:
            assert move.source == champion
            champion = move.target
    assert timeline.champion == champion
    for length in range(len(listed)):
        assert replay(listed[:length]).void == {number for number in timeline.void if number <= length}
