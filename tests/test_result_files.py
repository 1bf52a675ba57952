import json
from pathlib import Path
from typing import Any

import pytest

from edgeroof.errors import RunError
from edgeroof.result_files import read_result, staged_folder, write_json, write_result, write_result_beside

RESULT = {"schema_version": 1, "kind": "toy", "value": 1.5}


def write(path: Path, result: dict[str, Any] | None = None) -> Path:
    return write_result(result or RESULT, path, "toy.json", "<p>report</p>", what="a folder of a toy")


def read(path: Path) -> dict[str, Any]:
    return read_result(path, "toy.json", kind="toy", version=1, what="the toy", none="no toy")


def no_space(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "deep" / "toy")
    assert read(folder) == RESULT
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "toy.json"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_earlier_result_is_replaced_whole(tmp_path: Path) -> None:
    (write(tmp_path / "toy") / "stale").touch()
    write(tmp_path / "toy", RESULT | {"value": 2})
    assert read(tmp_path / "toy")["value"] == 2
    assert not (tmp_path / "toy" / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_an_empty_folder_and_a_link_are_places(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "latest").symlink_to("empty")
    assert write(tmp_path / "latest") == tmp_path / "empty"
    assert (tmp_path / "latest").is_symlink()
    assert read(tmp_path / "latest") == RESULT


def test_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(
        RunError, match=r"thesis is not empty and not a folder of a toy; name another folder with --out"
    ):
        write(tmp_path / "thesis")
    with pytest.raises(RunError, match=r"chapter\.tex is a file"):
        write(tmp_path / "thesis" / "chapter.tex")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_failure_leaves_what_was_there_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "toy")
    monkeypatch.setattr(Path, "write_text", no_space)
    with pytest.raises(RunError, match="toy could not be written: No space left on device"):
        write(tmp_path / "toy", RESULT | {"value": 2})
    with pytest.raises(RunError, match="No space left"):
        write_result_beside(RESULT | {"value": 2}, tmp_path / "toy", "toy.json", "")
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == ["report.html", "toy.json"]
    assert read(tmp_path / "toy") == RESULT


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staged_folder(tmp_path / "toy", "toy.json", what="a folder of a toy") as (staging, _):
            (staging / "toy.json").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_result_beside_others_leaves_them(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    write_result_beside(RESULT, tmp_path, "toy.json", "<p>report</p>")
    write_json(tmp_path / "points" / "one.json", {"done": True})
    assert read(tmp_path) == RESULT
    assert json.loads((tmp_path / "points" / "one.json").read_text()) == {"done": True}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "points", "report.html", "toy.json"]


def test_numbers_that_json_lacks_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write(tmp_path / "toy", RESULT | {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
