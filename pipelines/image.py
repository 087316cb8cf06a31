"""Which names of container images say for certain what they hold."""

import re

DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
COMMIT_IN_TAG = re.compile(r"(?:^|[._-])g?([0-9a-f]{7,64})(?=$|[._-])")


def check_image(image: str, commit: str) -> None:
    """Refuse an image whose name can come to mean other code: KFP caches by the name, and would serve old results.

    Taken are NAME@sha256:... and a tag that contains the git commit, at least 7 digits of it. ValueError: another one.
    """
    if DIGEST.fullmatch(image):
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    named = COMMIT_IN_TAG.findall(tag)
    if any(commit.startswith(digits) for digits in named):
        return
    fix = "name it by its digest, NAME@sha256:..., or by a tag that contains the git commit"
    if named:
        raise ValueError(f"the tag of image {image} is of commit {named[0]}, not of {commit[:12]} ({fix})")
    raise ValueError(f"image {image!r} can be moved to other code ({fix})")
