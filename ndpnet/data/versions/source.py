"""Where data are, and which version of them."""

import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class DataSource:
    """A commit of a git repository, an S3 prefix with a manifest (a file or s3://), or a folder that each pod mounts.

    version: the hash that names the data, None as long as nobody has looked.
    """

    url: str | None = None
    revision: str | None = None
    path: str = "data"
    prefix: str | None = None
    manifest: str | None = None
    folder: str | None = None
    endpoint_url: str | None = None
    version: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "DataSource":
        """What `to_json` gave, or somebody wrote so. ValueError: it is none."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:  # the text may hold a password
            raise ValueError('the source names no place of data (write it as {"url": ..., "revision": ...})') from error

    def to_json(self) -> str:
        """What is set, in one line: as it travels from pod to pod."""
        return json.dumps(self.named(), sort_keys=True)

    def named(self) -> dict[str, str]:
        """What is set, as for a tag."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self) -> None:
        """Refuse what names none or two places, or no folder of them. ValueError names the fix."""
        if (self.url is None) == (self.prefix is None):
            raise ValueError("either a git repository or an S3 prefix names the data (pass --url or --prefix)")
        if self.prefix is not None and self.manifest is None:
            raise ValueError(f"no manifest says which files of {self.prefix} to take (pass --manifest version.json)")
        if ".." in PurePosixPath(self.path).parts or not self.path.strip("/."):
            raise ValueError(f"path {self.path!r} lies outside the repository (name the pinned folder, as data)")
