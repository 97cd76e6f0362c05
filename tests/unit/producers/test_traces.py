from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from penstock.producers.traces import BUNDLED, bundled_trace, read_azure, read_mooncake, read_trace
from penstock.schemas.errors import InvalidConfiguration

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
)


def test_the_bundled_hour_is_complete() -> None:
    trace = bundled_trace()
    assert len(trace) == 19_366
    assert int(trace.input_tokens.sum()) == 22_361_870
    assert int(trace.output_tokens.sum()) == 4_088_665
    assert trace.duration_us == 3_501_721_937
    assert trace.cached_tokens is None
    assert trace.arrival_us[0] == 0
    assert (np.diff(trace.arrival_us) >= 0).all()


def test_the_bundled_hour_has_its_attribution_beside_it() -> None:
    text = (BUNDLED.parent / "README.md").read_text(encoding="utf-8")
    for words in ("CC-BY-4.0", "Azure/AzurePublicDataset", "Microsoft", BUNDLED.name):
        assert words in text


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_azure_rows_are_put_in_order_of_arrival(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(AZURE.encode()) if name.endswith(".gz") else AZURE.encode())
    trace = read_azure(path)
    assert trace.arrival_us.tolist() == [0, 4_314_579]
    assert trace.arrival_s.tolist() == [0.0, 4.314579]
    assert trace.input_tokens.tolist() == [374, 396]
    assert trace.output_tokens.tolist() == [44, 109]


def test_mooncake_rows_tell_what_a_prefix_cache_would_hold(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [1, 2]},
        {"timestamp": 1500, "input_length": 1300, "output_length": 0, "hash_ids": [1, 2, 3]},
        {"timestamp": 2000, "input_length": 1000, "output_length": 7, "hash_ids": [9, 2]},
        {"timestamp": 2000, "input_length": 1000, "output_length": 7, "hash_ids": [9, 2]},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    trace = read_mooncake(path)
    assert trace.arrival_us.tolist() == [0, 1_500_000, 2_000_000, 2_000_000]
    assert trace.output_tokens.tolist() == [5, 1, 7, 7]
    assert trace.cached_tokens is not None
    # Only blocks at the beginning count, and one token is always left to compute.
    assert trace.cached_tokens.tolist() == [0, 1024, 0, 999]


def test_head_keeps_the_first_seconds(tmp_path: Path) -> None:
    trace = bundled_trace().head(60)
    assert 0 < len(trace) < 19_366
    assert trace.arrival_s[-1] <= 60
    assert len(bundled_trace().head(0)) == 1


@pytest.mark.parametrize(
    ("form", "text", "line"),
    [
        ("azure", "TIMESTAMP,Context\n", ":1:"),
        ("azure", AZURE + "2023-11-16 18:15:50,x,3\n", ":4:"),
        ("azure", AZURE + "2023-11-16 18:15:50,3\n", ":4:"),
        ("mooncake", '{"timestamp": 0, "input_length": 1}\n', ":1:"),
        ("mooncake", "{\n", ":1:"),
        ("mooncake", "", "no requests"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, form: str, text: str, line: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfiguration, match="trace") as caught:
        read_trace(path, "azure" if form == "azure" else "mooncake")
    assert line in str(caught.value)


@pytest.mark.parametrize("name", ["none.csv", "broken.csv.gz"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(InvalidConfiguration, match=name):
        read_azure(tmp_path / name)
