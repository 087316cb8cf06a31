from contextlib import nullcontext

import pytest

from ndpnet.pipelines.request import Package, check_image

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "names_its_code"),
    [
        (f"registry.example:5000/team/ndpnet@{DIGEST}", True),
        (f"ndpnet:latest@{DIGEST}", True),
        ("ndpnet:0123456", True),
        ("ndpnet:v1.2-g0123456789-train", True),
        ("ndpnet", False),
        ("ndpnet:latest", False),
        ("ndpnet:012345", False),  # six digits
        ("ndpnet:v2024.11", False),
        ("ndpnet:20241124", False),  # all digits of hex, but not this commit
        ("ndpnet@sha256:abc", False),
        ("registry.0123456:5000/ndpnet", False),
        ("", False),
        (f"ndpnet@{DIGEST} ", False),
    ],
)
def test_an_image_that_can_come_to_mean_other_code_is_refused(image: str, names_its_code: bool) -> None:
    with nullcontext() if names_its_code else pytest.raises(ValueError, match="can be moved"):
        check_image(image, COMMIT)


def test_arguments_are_read_as_their_parameters_are(package: Package) -> None:
    assert package.parse_argument("revision", "7") == "7"
    assert package.parse_argument("only_new_data", "true") is True
    with pytest.raises(ValueError, match="parameter only_new_data is a Boolean, not 'yes'"):
        package.parse_argument("only_new_data", "yes")
