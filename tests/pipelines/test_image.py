import pytest

from pipelines.image import Image, check_image, parse_image

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
        ("ndpnet@sha256:abc", "is no name of an image"),
        ("NDPNet:0123456", "is no name of an image"),
        ("ndpnet:", "is no name of an image"),
        ("", "is no name of an image"),
        (f"ndpnet@{DIGEST} ", "is no name of an image"),
    ],
)
def test_an_image_that_can_change_is_refused(image: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_image(image, COMMIT)


def test_names_are_read_as_docker_reads_them() -> None:
    assert parse_image("ubuntu:24.04") == Image("registry-1.docker.io", "library/ubuntu", "24.04", "")
    assert parse_image("docker.io/team/a") == Image("registry-1.docker.io", "team/a", "", "")
    assert parse_image("team/a") == Image("registry-1.docker.io", "team/a", "", "")
    assert parse_image(f"localhost/a@{DIGEST}") == Image("localhost", "a", "", DIGEST)
    assert parse_image(f"10.0.0.1:5000/x/y:t@{DIGEST}") == Image("10.0.0.1:5000", "x/y", "t", DIGEST)
