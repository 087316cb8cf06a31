import pytest

from ndpnet.pipelines.request import Package, check_image

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "image",
    [
        f"registry.example:5000/team/ndpnet@{DIGEST}",
        f"ndpnet:latest@{DIGEST}",
        "ndpnet:0123456",
        "ndpnet:v1.2-g0123456789-train",
    ],
)
def test_an_image_that_names_its_code_is_taken(image: str) -> None:
    check_image(image, COMMIT)


@pytest.mark.parametrize(
    "image",
    [
        "ndpnet",
        "ndpnet:latest",
        "ndpnet:012345",  # six digits
        "ndpnet:v2024.11",
        "ndpnet:20241124",  # all digits of hex, but not this commit
        "ndpnet@sha256:abc",
        "registry.0123456:5000/ndpnet",
        "",
        f"ndpnet@{DIGEST} ",
    ],
)
def test_an_image_that_can_change_is_refused(image: str) -> None:
    with pytest.raises(ValueError, match="can be moved"):
        check_image(image, COMMIT)


def test_arguments_are_read_as_their_parameters_are(package: Package) -> None:
    assert package.parse_argument("revision", "7") == "7"
    assert package.parse_argument("only_new_data", "true") is True
    with pytest.raises(ValueError, match="parameter only_new_data is a Boolean, not 'yes'"):
        package.parse_argument("only_new_data", "yes")
