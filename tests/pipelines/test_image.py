import pytest

from ndpnet.pipelines.image import check_image

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "image",
    [
        f"registry.example:5000/team/ndpnet@{DIGEST}",
        f"ndpnet:latest@{DIGEST}",
        "ndpnet:0123456",
        f"ghcr.io/team/ndpnet:{COMMIT}",
        "ndpnet:v1.2-g0123456789-train",
    ],
)
def test_an_image_that_names_its_code_is_taken(image: str) -> None:
    check_image(image, COMMIT)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("ndpnet", "can be moved"),
        ("ndpnet:latest", "can be moved"),
        ("registry.example:5000/ndpnet", "can be moved"),
        ("ndpnet:012345", "can be moved"),  # six digits
        ("ndpnet:v2024.11", "can be moved"),
        ("ndpnet:20241124", "is of commit 20241124"),  # all digits of hex, but not this commit
        ("ndpnet:train-fedcba9", "is of commit fedcba9, not of 0123456789ab"),
        ("ndpnet@sha256:abc", "can be moved"),
        ("registry.0123456:5000/ndpnet", "can be moved"),
        ("ndpnet:", "can be moved"),
        ("", "can be moved"),
        (f"ndpnet@{DIGEST} ", "can be moved"),
    ],
)
def test_an_image_that_can_change_is_refused(image: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_image(image, COMMIT)
