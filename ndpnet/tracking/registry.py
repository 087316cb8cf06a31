"""Moving the alias `champion`: a move is entered into a list first, and the alias follows the list.

MLflow sets an alias whatever it was before: two processes cannot agree by it. But it numbers the versions of a
registered model one after the other, each with its tags in one transaction. So the moves of `ndpnet-NAME` are the
versions of `history-of-ndpnet-NAME`: of two moves away from the same champion the later one is void, for every reader.
A process may end between any two calls: the alias is then on the old champion or on the new one, and the next call
brings it to where the list says.
"""

import logging
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseError
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from ndpnet.files import hash_of
from ndpnet.tracking.client import NOTE, connect, experiment_id
from ndpnet.tracking.identity import author
from ndpnet.tracking.moves import MAX_REASON, Kind, Move, Timeline, replay
from ndpnet.tracking.runs import DESCRIPTIONS
from ndpnet.tracking.versions import CATEGORY, PACKAGE_HASH, entries_of, find_at, get_version, in_one_line

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
EVIDENCE = "promotion.json"
ROUNDS = 10  # of following a list that others extend meanwhile


class Registry:
    """One registered model, its aliases and its history, for who calls now.

    Every method: ValueError in one line if the registry fails.
    """

    def __init__(self, name: str) -> None:
        self.author = author()
        with in_one_line():
            self.name, self.client = name, connect()
            self._model()

    def version(self, number: int | str) -> ModelVersion:
        """A version with its tags. ValueError names those there are."""
        with in_one_line():
            return get_version(self.client, self.name, number)

    def newest(self) -> int:
        """The version registered last. ValueError: there is none."""
        with in_one_line():
            numbers = [int(version.version) for version in entries_of(self.name)]
        if not numbers:
            raise ValueError(f"{self.name} has no version (run `ndpnet register`)")
        return max(numbers)

    def aliases(self) -> dict[str, int]:
        """Which version each alias is on."""
        with in_one_line():
            return {alias: int(version) for alias, version in self._model().aliases.items()}

    def timeline(self) -> Timeline:
        """The moves so far and what they amount to."""
        with in_one_line():
            return replay(self._moves())

    def nominate(self, version: int) -> None:
        """Put the alias `challenger` on a version."""
        with in_one_line():
            if self.aliases().get(CHALLENGER) != version:
                self._set_alias(CHALLENGER, version)

    def keep_evidence(self, version: int, files: Mapping[str, str], tags: Mapping[str, str], description: str) -> str:
        """Upload what was found of a version to a run of its own, and mark the version with it. -> the run's id"""
        registered = self.version(version)
        own = {"ndpnet.step": "promote", "ndpnet.version": str(version), "ndpnet.model": self.name}
        own |= {NOTE: DESCRIPTIONS["promote"]}
        own |= {key: registered.tags[key] for key in (CATEGORY, PACKAGE_HASH) if key in registered.tags}
        with in_one_line():
            run_name = f"promote {self.name} {version}"
            run_id = self.client.create_run(experiment_id(self.client), tags=own, run_name=run_name).info.run_id
            for name, text in files.items():
                self._keep_text(run_id, name, text)
            self.client.set_terminated(run_id)
            for key, value in tags.items():
                if registered.tags.get(key) != value:
                    self.client.set_model_version_tag(self.name, str(version), key, value)
            self.client.update_model_version(self.name, str(version), description)
        return run_id

    def move(
        self,
        kind: Kind,
        target: int,
        *,
        source: int | None,
        reason: str = "",
        run_id: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> Timeline:
        """Make `target` the champion in place of `source`. ValueError: it no longer is the champion, nothing was moved.

        From the one call that enters the move on it will happen, by this process or by the next call of anybody.
        """
        self.version(target)  # it is there
        evidence_hash = hash_of(evidence) if evidence is not None else ""
        who, when, token = self.author["who"], self.author["when"], uuid.uuid4().hex
        entry = Move(kind, source, target, who, when, reason[:MAX_REASON], run_id, evidence_hash, token)
        with in_one_line():
            if (timeline := self.timeline()).champion != source:
                raise ValueError(self._was_late(source, timeline))
            self._enter(entry)
        timeline = self.settle()
        if not timeline.has_won(entry.token):
            raise ValueError(self._was_late(source, timeline))
        return timeline

    def settle(self) -> Timeline:
        """Bring the aliases to where the list of moves says; finishes what another process has begun."""
        with in_one_line():
            for _ in range(ROUNDS):
                timeline = replay(self._moves())
                if not self._follow(timeline):
                    return timeline
        raise ValueError(f"the champion of {self.name} does not stop moving (try again)")

    @property
    def history_name(self) -> str:
        """The registered model whose versions are the moves; no category can have this name."""
        return f"history-of-{self.name}"

    def _keep_text(self, run_id: str, name: str, text: str) -> None:
        """Upload a text and read it back: a login page before the server, say, takes everything and keeps nothing."""
        self.client.log_text(run_id, text, name)
        with tempfile.TemporaryDirectory(prefix="ndpnet-") as scratch:
            path = Path(self.client.download_artifacts(run_id, name, scratch))
            if path.read_bytes() != text.encode():
                raise ValueError(f"the tracking server has not kept {name} as it was sent (nothing was moved)")

    def _model(self) -> RegisteredModel:
        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ValueError(f"no {self.name} in the registry (run `ndpnet register`, check the name)") from error

    def _moves(self) -> list[Move]:
        moves = []
        for entry in entries_of(self.history_name):
            try:
                moves.append(Move.from_tags(int(entry.version), entry.tags))
            except ValueError as error:  # somebody else has put it there
                logger.warning("%s: %s", entry.name, error)
        return moves

    def _enter(self, entry: Move) -> None:
        """The one call that decides. An error may hide that it was done: then the list has it."""
        try:
            self.client.create_registered_model(
                self.history_name, description=f"Every move of the champion of {self.name}, in order. Not a model."
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        text = f"{entry.kind} {entry.source} -> {entry.target} {entry.reason}"
        try:
            self.client.create_model_version(
                self.history_name,
                f"models:/{self.name}/{entry.target}",  # a server takes this one without a run or a model of its own
                tags=entry.to_tags(),
                description=text,
                await_creation_for=0,
            )
        except (MlflowException, ParseError):
            if not any(move.token == entry.token for move in self._moves()):
                raise

    def _follow(self, timeline: Timeline) -> bool:
        """Set what is not as the list says. -> whether anything was not: somebody may have moved on meanwhile"""
        aliases, champion = self.aliases(), timeline.champion
        if champion is None:
            return False
        is_off = aliases.get(CHAMPION) != champion
        if is_off:
            if find_at(self.client, self.name, champion) is None:
                fix = "`ndpnet rollback` goes back to the one before"
                raise ValueError(f"version {champion}, the champion of {self.name}, was deleted ({fix})")
            self._set_alias(CHAMPION, champion)
        if aliases.get(CHALLENGER) == champion:
            self.client.delete_registered_model_alias(self.name, CHALLENGER)
        return is_off

    def _set_alias(self, alias: str, version: int) -> None:
        """Put an alias on a version. Of two processes that insert it at once MLflow fails one: then it is there."""
        try:
            self.client.set_registered_model_alias(self.name, alias, str(version))
        except MlflowException as error:
            if "unique" not in str(error).lower():
                raise
            self.client.set_registered_model_alias(self.name, alias, str(version))

    def _was_late(self, source: int | None, timeline: Timeline) -> str:
        before = "there was no champion" if source is None else f"version {source} was the champion"
        return (
            f"the champion of {self.name} has moved since this began ({before}), to version {timeline.champion}: "
            "nothing was moved (look at `ndpnet history`, then try again)"
        )
