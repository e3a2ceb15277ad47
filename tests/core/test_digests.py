"""Digests are those that campaign folders hold already, bit for bit."""

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.digests import digest_of, digest_of_bytes, digest_of_file, digest_of_files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_known_values() -> None:
    assert digest_of([{"b": 1, "a": [0.1, None]}, "é"]) == (
        "fa6b248f9cb5eb8e19ae33751c597e74db940df09a5a18ad7d89842a1a3cf78e"
    )
    assert digest_of_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(JSON)
def test_of_any_value_it_is_sha256_over_its_json_with_sorted_keys(value: object) -> None:
    assert digest_of(value) == hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def test_of_files_it_counts_names_and_contents_and_no_order(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    paths = [tmp_path / "b", tmp_path / "a"]
    assert digest_of_files(paths, tmp_path) == hashlib.sha256(b"a\0001\0b\0002\0").hexdigest()
    assert digest_of_files(reversed(paths), tmp_path) == digest_of_files(paths, tmp_path)
    assert digest_of_file(tmp_path / "a") == digest_of_bytes(b"1")
    (tmp_path / "a").rename(tmp_path / "c")
    assert digest_of_files([tmp_path / "b", tmp_path / "c"], tmp_path) != digest_of_files(paths[:1], tmp_path)
