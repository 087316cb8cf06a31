"""How a picture enters the journal, from wherever it comes: its bytes first, then its row."""

from collections.abc import Callable

from ndpnet.station.config import StationConfig
from ndpnet.station.journal import Journal, LostError
from ndpnet.station.store import Store

SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"II*\x00": ".tif", b"MM\x00*": ".tif", b"BM": ".bmp"}


def suffix_of(content: bytes) -> str:
    """How the name of a file with this content ends."""
    return next((suffix for magic, suffix in SUFFIXES.items() if content.startswith(magic)), ".bin")


class Intake:
    """Takes pictures as long as there is room; `accepted` is called once one is in the journal."""

    def __init__(self, journal: Journal, store: Store, station: StationConfig, accepted: Callable[[], None]) -> None:
        self.journal, self.store, self.limits, self._accepted = journal, store, station.server, accepted
        self._sample, self.station_name = station.review_sample, station.name or ""

    @property
    def max_bytes(self) -> float:
        """Of one picture."""
        return self.limits.max_megabytes * 1e6

    def known(self, line: str, key: str) -> int | None:
        """Id of a picture that was taken before. FullError: it was not, and there is no room."""
        return self.journal.id_of(line, key, max_waiting=self.limits.max_waiting)

    def take(self, line: str, name: str, key: str, content: bytes) -> int:
        """Enter a picture once. -> its id. FullError: no room; OSError: no disk."""
        known = self.known(line, key)
        return self.add(line, name, key, content, suffix_of(content))[0] if known is None else known

    def add(self, line: str, name: str, key: str, content: bytes, suffix: str) -> tuple[int, bool]:
        """As `take` after `known`. -> its id, and whether nobody has entered it meanwhile."""
        file, sha256 = self.store.add(content, line, suffix)
        about = {"name": name, "file": file, "sha256": sha256, "num_bytes": len(content)}
        is_new = False
        try:
            picture_id, is_new = self.journal.accept(line, key, is_sampled=self._is_sampled(sha256), **about)
        except LostError:
            is_new = True  # it may be: if it is not, the next start removes the file
            raise
        finally:
            if not is_new:
                self.store.take_back(file)
        self._accepted()
        return picture_id, is_new

    def _is_sampled(self, sha256: str) -> bool:
        """Drawn by the content's hash: neither its score nor a restart decides."""
        return int(sha256[:16], 16) < self._sample * 2**64
