"""Addresses on S3, and which keys may become files."""

import pytest

from ndpnet.storage.urls import parse_url, relative_path


def test_url_is_taken_as_it_is() -> None:
    assert parse_url("s3://bucket") == parse_url("s3://bucket/") == ("bucket", "")
    assert parse_url("s3://a.b-c/d e/%20?x#y//z/") == ("a.b-c", "d e/%20?x#y//z/")
    for url in ("", "s3://", "s3:///key", "http://x/y", "s3:/x/y", "bucket/key", "s3://a b/c", "s3://[/c"):
        with pytest.raises(ValueError, match=r"is no address on S3 \(give s3://BUCKET/PREFIX\)"):
            parse_url(url)


@pytest.mark.parametrize(
    "key",
    ["../x", "a/..", "..", "./x", "/x", "/etc/passwd", "a//b", "a/", "", "a\0b", "é" * 128],
)
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ValueError, match=r"^the key '") as caught:
        relative_path(key)
    assert repr(key) in str(caught.value)
    assert "rename the object" in str(caught.value)
