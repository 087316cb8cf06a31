"""Where data are, and which version of them."""

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from ndpnet.redaction import redact


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
    def given(cls, **where: str | None) -> "DataSource":
        """From arguments of which the empty ones are not given: KFP has no None."""
        return cls(**{name: value for name, value in where.items() if value})

    def named(self) -> dict[str, str]:
        """What is set, as for a tag."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self) -> None:
        """Refuse what names none or two places, or no folder of them. ValueError names the mend."""
        if (self.url is None) == (self.prefix is None):
            raise ValueError("either a git repository or an S3 prefix names the data (pass --url or --prefix)")
        if self.prefix is not None and self.manifest is None:
            raise ValueError(f"no manifest says which files of {self.prefix} to take (pass --manifest version.json)")
        if self.url is not None and "://" in self.url and not urlsplit(self.url).path.strip("/"):
            raise ValueError(f"the git URL {redact(self.url, self.url)} names no repository (complete it)")
        if ".." in PurePosixPath(self.path).parts or not self.path.strip("/."):
            raise ValueError(f"path {self.path!r} lies outside the repository (name the pinned folder, as data)")
