from __future__ import annotations

import csv
import json

import pandas as pd
import pytest

from edgeroof.errors import WorkloadError
from edgeroof.workloads.dialogues import Dialogue, read_dialogues

RECORDS = [
    {"id": "1", "dialogue": 'Ann: hi\r\nBo: hi, "you"', "summary": "They greet."},
    {"id": "2", "dialogue": "Zoë: ok", "summary": "Zoë agrees."},
]
EXPECTED = [Dialogue(record["dialogue"], record["summary"]) for record in RECORDS]


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "dialogue", "summary"])
        writer.writeheader()
        writer.writerows(RECORDS)


WRITERS = {
    "data.json": lambda path: path.write_text(json.dumps(RECORDS), encoding="utf-8"),
    "bom.json": lambda path: path.write_text(json.dumps(RECORDS), encoding="utf-8-sig"),
    "splits.json": lambda path: path.write_text(json.dumps({"test": [], "train": RECORDS}), encoding="utf-8"),
    "data.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, RECORDS)) + "\n\n", encoding="utf-8"),
    "data.csv": write_csv,
    "data.parquet": lambda path: pd.DataFrame(RECORDS).to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    assert read_dialogues(path) == EXPECTED


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "is empty"),
        ("a.json", b"  \n", "is empty"),
        ("a.json", b"\xff\xfe\x00", "not UTF-8"),
        ("a.json", b"[{", "is not JSON"),
        ("a.json", b"[" * 200_000, "is not JSON"),
        ("a.json", b"3", "holds a int, not a list"),
        ("a.json", b"[]", "no dialogues"),
        ("a.json", b"[3]", "record 1: expected an object"),
        ("a.json", b'[{"dialogue": "x"}]', r"no field 'summary' \(found dialogue\)"),
        ("a.json", b'[{"dialogue": "x", "summary": null}]', "summary is not text but NoneType"),
        ("a.json", b'{"validation": []}', r"no split 'train' \(splits found: validation\)"),
        ("a.json", b'{"dialogue": "x"}', r"splits found: none"),
        ("a.jsonl", b'{"dialogue": "x", "summary": "y"}\n{', "line 2 is not JSON"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"id,dialogue\n1,x\n", "no field 'summary'"),
        ("a.csv", b"dialogue,summary\nx\n", "summary is not text but NoneType"),
        ("a.csv", b'dialogue,summary\n"x"y,z\n', "is not CSV"),
        ("a.csv", b"dialogue,summary\n", "no dialogues"),
        ("a.parquet", b"PAR1 no", "not a Parquet file"),
        ("a.txt", b"x", r"data files end in \.json, \.jsonl, \.csv, \.parquet"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=message):
        read_dialogues(path)


def test_parquet_without_the_columns(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["x"]}).to_parquet(path)
    with pytest.raises(WorkloadError, match="no field 'dialogue'"):
        read_dialogues(path)


def test_folder_and_missing_file(tmp_path):
    with pytest.raises(WorkloadError, match="is a folder"):
        read_dialogues(tmp_path)
    with pytest.raises(WorkloadError, match="no such data file"):
        read_dialogues(tmp_path / "a.json")
