"""Names of container images, and which of them say for certain what they hold."""

import re
from dataclasses import dataclass

DEFAULT_REGISTRY = "registry-1.docker.io"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
HOST = re.compile(r"[A-Za-z0-9.-]+(?::\d+)?")
COMMIT_IN_TAG = re.compile(r"(?:^|[._-])g?([0-9a-f]{7,64})(?=$|[._-])")


@dataclass(frozen=True)
class Image:
    """An image's name in parts; of tag and digest one may be empty."""

    registry: str
    name: str
    tag: str
    digest: str


def parse_image(image: str) -> Image:
    """Take an image's name apart, as Docker reads it. ValueError: it is none."""
    rest, _, digest = image.partition("@")
    first, slash, others = rest.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, others) if has_registry else ("", rest)
    name, _, tag = path.partition(":")
    is_valid = NAME.fullmatch(name) and (not tag or TAG.fullmatch(tag)) and not path.endswith(":")
    is_valid = is_valid and (not registry or HOST.fullmatch(registry))
    if not is_valid or ("@" in image and not DIGEST.fullmatch(digest)):
        raise ValueError(f"{image!r} is no name of an image (write REGISTRY/NAME@sha256:DIGEST)")
    if registry in ("", "docker.io"):
        name = name if "/" in name else f"library/{name}"
    return Image(DEFAULT_REGISTRY if registry in ("", "docker.io") else registry, name, tag, digest)


def check_image(image: str, commit: str) -> None:
    """Refuse an image whose name can come to mean other code: KFP caches by the name, and would serve old results.

    Taken are NAME@sha256:... and a tag that contains the git commit, at least 7 digits of it. ValueError: another one.
    """
    parsed = parse_image(image)
    if parsed.digest:
        return
    found = COMMIT_IN_TAG.findall(parsed.tag)
    if any(commit.startswith(digits) for digits in found):
        return
    mend = "name it by its digest, NAME@sha256:..., or by a tag that contains the git commit"
    if found:
        raise ValueError(f"the tag of image {image} is of commit {found[0]}, not of {commit[:12]} ({mend})")
    raise ValueError(f"the tag of image {image} can be moved to other code ({mend})")
