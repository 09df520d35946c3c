"""A list of shots: the table says what came of each, and a second call does only what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mam_video.cli import main
from tests.farm.test_engines import BOX, refused
from tests.synthetic import disc, picture, write_movie

COUNT = 10


def shots_in(folder: Path) -> Path:
    """Five shots: one good, one whose plate is cut off, one that loses its subject, one that exists, one of typos."""
    for name in ("good", "broken", "there", "typo"):
        write_movie(folder / f"{name}.mov", COUNT, lambda i: picture(disc((96, 128), (48 + 1.5 * i, 48 + i), 21)))
    write_movie(folder / "lost.mov", COUNT, lambda i: picture(disc((96, 128), (48, 48) if i < 4 else (4000, 4000), 21)))
    (folder / "broken.mov").write_bytes((folder / "broken.mov").read_bytes()[:400])
    (folder / "out").mkdir()
    (folder / "out/there.mov").write_bytes(b"made before")
    shots = [
        {"name": name, "input": f"{folder}/{name}.mov", "box": BOX, "output": f"{folder}/out/{name}.mov"}
        for name in ("good", "broken", "lost", "there")
    ]
    shots[0]["output"] = [f"{folder}/out/good.####.png", f"{folder}/out/good.mov"]  # type: ignore[assignment]
    shots.append({"name": "typo", "input": f"{folder}/typo.mov", "boxx": BOX, "output": f"{folder}/out/typo.mov"})
    lines = ",\n".join("{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in shot.items()) + " }" for shot in shots)
    path = folder / "shots.toml"
    path.write_text(f'version = 1\ndefaults = {{ model = "fake-colour" }}\nshot = [\n{lines},\n]\n')
    return path


def batch(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any], str]:
    """Run a list; return the exit code, the rows by name, and what was printed."""
    folder = path.parent
    code = main(["batch", str(path), "--report", f"{folder}/r", "--workers", "1", *more])
    rows = json.loads((folder / "r/batch.json").read_text())["shots"]
    return code, {row["name"]: row for row in rows}, capsys.readouterr().out


def test_the_table_is_right_and_a_second_call_does_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shots_in(tmp_path)
    code, rows, printed = batch(path, capsys)
    assert code == 1
    assert {name: row["state"] for name, row in rows.items()} == {
        "good": "done", "broken": "failed", "lost": "flagged", "there": "exists", "typo": "failed",
    }  # fmt: skip
    assert (rows["good"]["frames"], rows["good"]["flagged"]) == (COUNT, 0)
    assert rows["lost"]["frames"] == COUNT and rows["lost"]["flagged"] >= COUNT - 5 and "lost" in rows["lost"]["says"]
    assert "broken.mov" in rows["broken"]["says"] and "did you mean '--box'" in rows["typo"]["says"]
    assert "5 shots: 1 done, 1 flagged, 1 exists, 2 failed" in printed
    assert (tmp_path / "out/there.mov").read_bytes() == b"made before"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [*(f"good.{1001 + k}.png" for k in range(COUNT)), "good.mov", "lost.mov", "there.mov"]
    )
    page = (tmp_path / "r/index.html").read_text()
    assert page.count("<tr>") == 6 and 'href="lost/report.html"' in page
    lost = (tmp_path / "r/lost/report.html").read_text()
    _, _, data = lost.partition('"rerun":')
    assert '"mam-video", "matte"' in data and f"--output={tmp_path}/out/lost.mov" in data and "--overwrite" in data
    assert f'"--box", "{BOX}"' in data and '"--model' in data  # the prompt apart, the rest as the list has it

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    write_movie(tmp_path / "broken.mov", COUNT, lambda i: picture(disc((96, 128), (48, 48), 21)))
    path.write_text(path.read_text().replace("boxx", "box"))
    code, again, _ = batch(path, capsys, "--quiet")
    assert code == 3
    assert [row["state"] for row in again.values()] == ["done", "done", "flagged", "exists", "done"]
    assert {name: again[name] for name in ("good", "lost", "there")} == {
        name: rows[name] for name in ("good", "lost", "there")
    }
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_lists_that_are_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(text: str) -> str:
        path = tmp_path / "list.toml"
        path.write_text(text)
        return refused(capsys, ["batch", str(path), "--report", f"{tmp_path}/r"])

    assert "begin it with version = 1; it has None" in said("shot = [{name = 'a'}]")
    assert "has no shot" in said("version = 1")
    assert "unknown key 'shots'; did you mean 'shot'?" in said("version = 1\nshots = []")
    assert "the name A is given twice" in said("version = 1\nshot = [{name = 'a'}, {name = 'A'}]")
    assert "needs a name of letters" in said("version = 1\nshot = [{name = '../a'}]")
    assert "no such file of shots" in refused(capsys, ["batch", f"{tmp_path}/none.toml"])
