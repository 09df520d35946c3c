"""A mask from the artist's disk shows the subject: it is checked, kept, tracked from, and said by the command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

for package in ("httpx", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import httpx

from mam_video import Settings
from mam_video.cli.prompts import clip_of
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.parse import by_subject, read_entries
from mam_video.studio.project import Project, folder_of
from mam_video.studio.shot import Shot
from mam_video.studio.state import Pointed
from tests.studio.conftest import FRAMES, SIZE, Served
from tests.studio.test_jobs import seen, shot, tracked, truth, until
from tests.synthetic import disc

__all__ = ["shot"]  # a fixture


def png(alpha: np.ndarray) -> bytes:
    """A mask as the bytes of a PNG."""
    return cv2.imencode(".png", np.rint(alpha * 255).astype(np.uint8))[1].tobytes()


def send(served: Served, data: bytes, frame: int = 3, kind: str = "image/png", subject: str = "0") -> httpx.Response:
    headers = {"Origin": served.base, "Content-Type": kind}
    return served.client.post(f"/api/0/mask/{frame}?subject={subject}", content=data, headers=headers)


def test_a_mask_is_kept_and_undone_and_drawn_over(served: Served, clip: Path) -> None:
    answer = send(served, png(truth(3)))
    assert answer.status_code == 200
    (prompt,) = answer.json()["state"]["prompts"]
    file = folder_of(clip) / "masks" / prompt["mask"]
    assert file.read_bytes() == png(truth(3)) and prompt["box"] is None
    assert f'mask = "masks/{prompt["mask"]}"' in (folder_of(clip) / "prompts.toml").read_text()
    served.act("add_point", subject=0, frame=3, x=36, y=36, on=True, box=[20, 20, 52, 52])
    (prompt,) = served.client.get("/api/0/state").json()["state"]["prompts"]
    assert "mask" not in prompt and prompt["points"] and prompt["box"]
    served.act("undo")
    assert served.client.get("/api/0/state").json()["state"]["prompts"][0]["mask"] == file.name


def test_what_is_no_mask_of_this_clip_is_told_and_not_kept(served: Served, clip: Path) -> None:
    black = np.zeros(SIZE, np.float32)
    huge = png(truth(0))[:16] + (60000).to_bytes(4, "big") * 2 + png(truth(0))[24:]  # says to be 60000x60000
    for data, says in (
        (b"GIF89a", "a mask is a PNG"), (b"", "a mask is a PNG"), (png(truth(0))[:50], "not a picture"),
        (png(disc((40, 40), (20, 20), 9)), "the mask is 40x40, the clip 96x72"), (huge, "60000x60000"),
        (png(black), "no pixel of this mask is brighter than half"), (png(black + 1), "white everywhere"),
    ):  # fmt: skip
        answer = send(served, data)
        assert answer.status_code == 400 and says in answer.json()["error"], answer.text
    good = png(truth(0))
    assert send(served, good, kind="text/plain").status_code == 400
    assert send(served, good, frame=FRAMES).status_code == 400
    assert send(served, good, subject="../0").status_code == 400
    assert send(served, good, subject="7").status_code == 400
    assert served.client.post("/api/0/mask/3?subject=0", content=good).status_code == 403  # no Origin
    for name in ("../prompts.toml", "0123456789abcdef.png", "", None, 7):
        assert served.act("set_mask", subject=0, frame=0, mask=name).status_code == 400
    assert served.client.get("/api/0/state").json()["state"]["prompts"] == []


def test_masks_that_nothing_leads_to_are_removed(clip: Path) -> None:
    with open_clip(clip) as reader:
        info = reader.info
    with Project(folder_of(clip), info) as project:
        for name in ("0" * 16, "1" * 16):
            (project.folder / "masks" / f"{name}.png").write_bytes(png(truth(0)))
        project.act(project.state.with_prompt(Pointed(0, 0, mask=f"{'1' * 16}.png")), "mask")
        project.undo()  # redo still leads to it
    with Project(folder_of(clip), info) as project:
        assert [path.name for path in (project.folder / "masks").iterdir()] == [f"{'1' * 16}.png"]


def test_a_mask_is_matted_tracked_and_corrected_from_as_by_the_command_line(
    shot: Shot, clip: Path, tmp_path: Path
) -> None:
    shot.take_mask(0, 0, png(truth(0)))
    assert shot.still(0)
    until(lambda: seen(shot, 0) is not None)
    first = tracked(shot)
    assert shot.usable() is not None
    shot.take_mask(0, 7, png(truth(7)))
    assert shot.tracking.corrects()
    second = tracked(shot)
    assert second > first
    for k in range(FRAMES):
        alpha = seen(shot, k)
        assert alpha is not None and np.abs(alpha - truth(k)).mean() < 0.02

    command = shot.command()
    version = shot.usable()
    assert version is not None and command[command.index("--track") + 1] == version.track
    shot.act("set_setting", {"key": "smooth.strength", "value": 0.5})
    command = shot.command()  # tracks by the prompts now
    prompts = command[command.index("--prompts") + 1]
    with open_clip(clip) as reader:
        entries = read_entries(prompts, clip_of(reader.info))
    assert [(each.index, each.prompt.mask is not None) for each in entries] == [(0, True), (7, True)]
    subjects, settings = list(by_subject(entries).values()), Settings()
    matte_clip(clip, str(tmp_path / "m.mov"), subjects, settings, model=ColourModel(view_size=64))
    assert (tmp_path / "m.mov").stat().st_size > 0
