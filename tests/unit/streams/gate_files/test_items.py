"""Files of items: evaluation results and lm-evaluation-harness output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from penstock.streams.gate_files.items import read_items
from penstock.streams.gate_files.reading import InvalidFile, NoFile

DATA = Path(__file__).parents[3] / "data" / "gates" / "lm_eval"
[SAMPLES] = DATA.glob("samples_*")
[RESULTS] = DATA.glob("results_*")


def test_rows_keyed_by_a_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("item_id,acc,note\n7,1,\n8.0,true,x\n")
    table = read_items(path, "item_id")
    assert table.keys == ["7", "8"]
    assert table.columns == {"acc": [1.0, True], "note": [None, "x"]}


def test_rows_come_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"pair_id": "b", "ts": 2, "ok": 0}\n{"pair_id": "a", "ts": 1, "ok": 1}\n')
    table = read_items(path, "pair_id")
    assert (table.keys, table.columns["ok"]) == (["a", "b"], [1, 0])


def test_other_files_hold_no_items(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InvalidFile, match="rows are read from"):
        read_items(tmp_path / "a.txt", "item_id")
    (tmp_path / "a.json").write_text('{"item_id": 7}')
    with pytest.raises(InvalidFile, match="is one object"):
        read_items(tmp_path / "a.json", "item_id")


def test_a_row_without_its_key(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"item_id": 1, "acc": 1}\n{"id": 2, "acc": 1}\n')
    with pytest.raises(
        InvalidFile, match=r"a\.jsonl:2: no item_id, which pairs this row; it has id"
    ):
        read_items(path, "item_id")


@pytest.mark.parametrize("path", [SAMPLES, RESULTS, DATA])
def test_lm_eval_as_it_comes(path: Path) -> None:
    """Two lines a document, one per filter; a results file or a folder stands for its samples."""
    table = read_items(path, "ignored")
    assert len(table.keys) == 6
    assert table.columns["exact_match,strict-match"] == [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert table.columns["exact_match,flexible-extract"] == [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]
    assert "exact_match" not in table.columns
    assert str(table.columns["text"][1]).endswith("#### 2")


def test_one_filter_needs_no_name(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    path = tmp_path / "samples_arc_2026-01-16T16-02-26.1.jsonl"
    kept = [row for row in rows if row["filter"] == "strict-match"]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    table = read_items(path, "")
    assert table.columns["exact_match"] == table.columns["exact_match,strict-match"]
    assert table.keys[0].startswith("arc/0/")


def test_what_lm_eval_says_differently(tmp_path: Path) -> None:
    old = {"doc_id": 0, "filtered_resps": [[-1.5, False]], "acc": 1.0, "resps": [[[-1.5, False]]]}
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(old) + "\n")
    table = read_items(path, "")
    assert (table.columns["acc"], table.columns["text"]) == ([1.0], [None])
    whole_task = old | {"metrics": ["f1"], "f1": ["gold", ["guess"]]}
    path.write_text(json.dumps(whole_task) + "\n")
    assert read_items(path, "").columns["f1"] == [None]
    path.write_text(json.dumps(old) + "\n" + json.dumps(old) + "\n")
    with pytest.raises(InvalidFile, match=r"old\.jsonl:2: document 0 has acc,none twice"):
        read_items(path, "")
    path.write_text(json.dumps(old) + "\n" + '{"other": 1}\n')
    with pytest.raises(InvalidFile, match=r"old\.jsonl:2: no doc_id"):
        read_items(path, "")


def test_a_summary_without_samples(tmp_path: Path) -> None:
    shutil.copy(RESULTS, tmp_path)
    with pytest.raises(InvalidFile, match="--log_samples"):
        read_items(tmp_path / RESULTS.name, "")
    with pytest.raises(NoFile, match="--log_samples"):
        read_items(tmp_path, "")
    shutil.copy(RESULTS, tmp_path / "mine.json")
    with pytest.raises(InvalidFile, match="is a summary"):
        read_items(tmp_path / "mine.json", "")


def test_the_newest_samples_of_a_folder_count(tmp_path: Path) -> None:
    shutil.copy(SAMPLES, tmp_path)
    rows = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    later = tmp_path / "samples_gsm8k_2026-02-01T00-00-00.000000.jsonl"
    later.write_text("".join(json.dumps(row | {"exact_match": 0.0}) + "\n" for row in rows))
    table = read_items(tmp_path, "")
    assert set(table.columns["exact_match,strict-match"]) == {0.0}
