"""Every command of the README, of the guide and of every help page's examples runs as it is printed."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.cli.main import build_parser
from mam_video.models.colour_model import ColourModel
from tests.cli.test_help import walk
from tests.synthetic import disc, picture, write_movie
from tests.test_docs import DOCS, ROOT, commands

SIZE: Final = (410, 660)  # the smallest frame that holds the points and a part of each box of the texts
LOW: Final = (130, 460)  # of long clips: the boxes begin at 412,96
_BOX: Final = "--box 412,96,890,1010"

# What is not run, and why. Each of these still parses (tests/test_docs.py, tests/cli/test_help.py).
_NOT_RUN: Final = {
    r"weights get": "it fetches hundreds of MB from the network",
    r"weights add": "it needs a published checkpoint",
    r"--model mam-vit": "it needs the published weights",
    r"--text": "it needs a detector's weights; tests/prompts has a stand-in",
    r"mam-video studio": "it serves until it is stopped; tests/studio drives it in a browser",
    r"mam-video (job|task|batch)|--engine": "it starts many processes; tests/farm runs them",
    r"mam-video train": "it needs pictures and hours; tests/training has short runs",
}  # fmt: skip
_EXTRAS: Final = {r"--plot": "matplotlib", r"--instances": "scipy"}


def help_examples() -> Iterator[str]:
    for parser in walk(build_parser()):
        for line in re.findall(r"^  (mam-video (?:.*\\\n)*.*)$", parser.description or "", flags=re.MULTILINE):
            yield line.replace("\\\n", " ")


def every_command() -> list[str]:
    """Commands by their words, each once."""
    found = [
        *commands(ROOT / "README.md"),
        *commands(DOCS / "index.md"),
        *commands(DOCS / "guide.md"),
        *help_examples(),
    ]
    return list({shlex.join(shlex.split(line)): line for line in found}.values())


def length(line: str) -> int:
    """How many frames the clip of a command needs: as many as it names, and a few more."""
    numbers = [int(n) for n in re.findall(r"(\d+):box|--frame (\d+)|--range \d+-(\d+)|$", line) for n in n if n]
    return max(numbers, default=0) + 3


def alpha(i: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Two green discs, one in each of the texts' boxes; in a low frame one where the boxes begin."""
    if size == LOW:
        return disc(size, (435 + i % 3, 110), 20)
    return np.maximum(disc(size, (530 + i % 3, 250), 90), disc(size, (160, 250), 90))


def movie(path: Path, count: int) -> None:
    shown = [picture(alpha(i, LOW if count > 10 else SIZE)) for i in range(3)]
    write_movie(path, count, lambda i: shown[i % 3])


def pictures(pattern: str, count: int, of: Callable[[int], np.ndarray] = lambda i: alpha(i)) -> None:
    for i in range(count):
        path = Path(pattern % i if "%" in pattern else pattern)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.rint(of(i) * 255).astype(np.uint8))


def photo(name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    cv2.imwrite(name, picture(alpha(0))[..., ::-1])


def run(line: str) -> int:
    return main(shlex.split(line)[1:])


def prepared(*lines: str) -> None:
    for line in lines:
        assert run(f"mam-video {line} --quiet --overwrite") == 0


def toml(name: str) -> None:
    Path(name).write_text("version = 1\n[[prompt]]\nframe = 0\nbox = [412, 96, 890, 1010]\n", encoding="utf-8")


# What a command reads beside plate.mov, and how it comes to be.
_READ: Final[dict[str, Callable[[], object]]] = {
    r"samples/rabbit\.mp4": lambda: shutil.copytree(ROOT / "samples", "samples"),
    r"--bg street\.mov": lambda: movie(Path("street.mov"), 3),
    r"verify matte\.mov .*--range": lambda: prepared(f"matte plate.mov {_BOX} --range 20-39 -o matte.mov"),
    r"verify matte\.mov --against plate\.mov$": lambda: prepared(f"matte plate.mov {_BOX} -o matte.mov"),
    r"--overwrite": lambda: prepared(f"matte plate.mov {_BOX} --range 0 -o matte.mov"),
    r"--track shot\.track": lambda: prepared(f"matte plate.mov {_BOX} --save-track shot.track -o first.mov"),
    r"evaluate matte\.mov truth/": lambda: prepared(f"matte plate.mov {_BOX} -o matte.mov -o truth/:alpha"),
    r"truth\.mov": lambda: prepared(f"matte plate.mov {_BOX} -o 'frames/matte.####.png' -o truth.mov:alpha"),
    r"DAVIS": lambda: (pictures("masks/%05d.png", 4), pictures("DAVIS/Annotations/%05d.png", 4)),
    r"AM-2K": lambda: (pictures("mattes/a%d.png", 2), pictures("AM-2K/validation/mask/a%d.png", 2)),
    r"HIM2K": lambda: (pictures("mattes/a/%d.png", 2), pictures("HIM2K/alphas/natural/a/%d.png", 2)),
    r"shot\.toml": lambda: toml("shot.toml"),
    r"photo\.jpg": lambda: photo("photo.jpg"),
    r"photos/": lambda: (photo("photos/a.png"), photo("photos/b.jpg")),
    r"roto\.%04d": lambda: (pictures("roto.%04d.png", 3), pictures("rig.png", 1, lambda i: np.zeros(SIZE))),
    r"--trimaps": lambda: pictures("trimap.%04d.png", 3, lambda i: cv2.blur(alpha(i), (9, 9))),
    r"--mask first": lambda: pictures("first.png", 1),
    r"plate\.%04d\.exr": lambda: prepared(f"matte plate.mov {_BOX} -o plate.%04d.exr"),
}  # fmt: skip


@pytest.mark.parametrize("line", every_command(), ids=lambda line: " ".join(line.split())[:110])
def test_every_command_of_the_texts_runs(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for words, why in _NOT_RUN.items():
        if re.search(words, line):
            pytest.skip(f"not run here: {why}")
    for words, package in _EXTRAS.items():
        if re.search(words, line) and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install '.[evaluate]'")
    # Quick, and everything green is its subject; the model is tested elsewhere.
    monkeypatch.setattr("mam_video.models.lite.LiteModel.load", lambda *_: ColourModel())
    monkeypatch.setenv("MAM_VIDEO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    movie(tmp_path / "plate.mov", length(line))
    for words, make in _READ.items():
        if re.search(words, line):
            make()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    capfd.readouterr()
    try:
        code = run(line)
    except SystemExit as stopped:  # --version
        code = int(stopped.code or 0)
    said = capfd.readouterr()
    assert code == 0, said.err
    assert said.out and not said.err
    for name in re.findall(r"-o '?([\w./#%{}]+)", line):
        written = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
        assert written or "--dry-run" in line or "--overwrite" in line, name


def test_what_is_not_run_is_still_there() -> None:
    """A reason that no command needs any more is struck."""
    for words in (*_NOT_RUN, *_EXTRAS, *_READ):
        assert any(re.search(words, line) for line in every_command()), words
