"""The manifest: stable bytes, and a hash that follows the content."""

import dataclasses
from pathlib import Path

import pytest

from ndpnet.data.manifest import FileRecord, Manifest

GOOD = FileRecord("train/good/0.png", "g0", "train", "good", 8, "aa", 64, 80, None, None, "a1")
CRACK = FileRecord(
    "test/crack/0.png", "g1", "test", "crack", 8, "bb", 64, 80, "ground_truth/crack/0_mask.png", "cc", "b1"
)


def test_data_hash_follows_content_not_order_or_split() -> None:
    base = Manifest("tile", (CRACK, GOOD)).data_hash
    assert Manifest("tile", (GOOD, CRACK)).data_hash == base
    assert Manifest("tile", (CRACK, dataclasses.replace(GOOD, split="calibration"))).data_hash == base
    assert Manifest("tile", (CRACK, dataclasses.replace(GOOD, sha256="ab"))).data_hash != base
    assert Manifest("tile", (dataclasses.replace(CRACK, mask_sha256="cd"), GOOD)).data_hash != base


def test_broken_manifests_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for content in ("", "[1]", '{"category": "a"}', '{"category": "a", "files": [{"path": "x"}]}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"^cannot read the manifest .*\(run `ndpnet prepare` again\)$"):
            Manifest.load(path)
