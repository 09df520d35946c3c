"""The documentation is true: links lead somewhere, commands parse, the notebook runs, the site has no warning."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import pytest

import mam_video
from mam_video.cli.main import build_parser
from tests.synthetic import disc, picture, write_movie

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "samples" / "README.md"] if p.exists())
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
SITE = ("sphinx", "furo", "myst_parser")


def of_docs(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", without_fences(text))


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and Sphinx make them."""
    heads = re.findall(r"^#+ (.+)$", without_fences(path.read_text("utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def code_lines(path: Path) -> str:
    """What stands in a page's code blocks, fenced or indented, without the Python ones."""
    text = re.sub(r"^```(python|toml|text|\{).*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*fenced, *(line.strip() for line in text.splitlines() if line.startswith("    "))])


def commands(path: Path) -> list[str]:
    joined = code_lines(path).replace("\\\n", " ")
    lines = [re.sub(r"\s#.*", "", line).strip() for line in joined.splitlines()]  # without comments
    return [line for line in lines if line.startswith("mam-video ")]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text("utf-8"))):
        if "://" in link or link.startswith("generated/"):  # the latter exist when the site is built, which checks them
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}: there is no such file"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{path.name} links to {link}: the page has no such heading"


@pytest.mark.parametrize("path", [ROOT / "README.md", DOCS / "guide.md", DOCS / "index.md"], ids=lambda p: p.name)
def test_every_command_of_the_text_parses(path: Path) -> None:
    found = commands(path)
    assert found
    for line in found:
        if "--version" not in line:
            build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("path", [ROOT / "README.md", DOCS / "guide.md", DOCS / "index.md"], ids=lambda p: p.name)
def test_python_of_the_text_uses_public_names(path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        compile(block, path.name, "exec")
        for names in re.findall(r"^from mam_video import (.+)$", block, flags=re.MULTILINE):
            assert {name.strip() for name in names.split(",")} <= set(mam_video.__all__)


def python_blocks() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", DOCS / "guide.md", DOCS / "index.md"]
    return [
        (f"{path.name}-{k}", block)
        for path in pages
        for k, block in enumerate(
            re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        )
    ]


@pytest.fixture(scope="module")
def plate_of_the_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two frames that is large enough for the boxes of the text."""
    shape = disc((1080, 960), (650, 540), 200)
    return write_movie(tmp_path_factory.mktemp("text") / "plate.mov", 2, lambda i: picture(shape))


@pytest.mark.parametrize("block", [block for _, block in python_blocks()], ids=[name for name, _ in python_blocks()])
def test_python_of_the_text_runs(
    block: str, plate_of_the_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mam_video.models.colour_model import ColourModel

    monkeypatch.setattr(
        "mam_video.models.lite.LiteModel.load", lambda *_: ColourModel()
    )  # quick; it is tested elsewhere
    shutil.copy(plate_of_the_text, tmp_path / "plate.mov")
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture(disc((1080, 960), (650, 540), 200))[..., ::-1])
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "the text", "exec"), {"__name__": "__main__"})


def test_every_command_and_option_is_in_the_reference() -> None:
    pages = of_docs("reference_pages")
    page = pages.commands_page()
    parsers = [parser for parser, _ in pages.walk_parsers(build_parser())]
    assert len(parsers) > 5
    for parser in parsers:
        part = page.split(f"# `{parser.prog}`\n", 1)[1].split("\n## ")[0]
        for option, action in parser._option_string_actions.items():
            assert option in part or action.help == argparse.SUPPRESS


def test_every_public_name_is_in_the_reference() -> None:
    page = of_docs("reference_pages").api_page()
    for name in mam_video.__all__:
        assert re.search(rf"^\.\. auto\w+:: mam_video\.{name}$", page, flags=re.MULTILINE), name


def test_docstrings_become_lists_labels_and_examples() -> None:
    lines = of_docs("docstrings").as_rst(
        [
            "Take a*b of `Box`es | x_.",
            "",
            "one  a value",
            "       that goes on",
            "two, three   others",
            "",
            "Args:",
            "    name: what it is,",
            "        at length",
            "Returns: it,",
            "    or nothing",
            "Raises: UsageError",
            "",
            "So:",
            "",
            "    code * here",
        ]
    )
    assert [line for line in lines if line] == [
        "Take a\\*b of ``Box``\\ es \\| x\\_.",
        "* **one**: a value",
        "  that goes on",
        "* **two, three**: others",
        "**Args:**",
        "* **name**: what it is,",
        "  at length",
        "**Returns:** it,",
        "or nothing",
        "**Raises:** UsageError",
        "So:",
        "::",
        "    code * here",
    ]


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html">gone</a><a href="#nowhere">x</a><a href="#top">fine</a>'
        '<a href="https://example.org/">fine</a><img src="https://example.org/x.png"><script src="x.js"></script>'
        '<p style="background:url(//example.org/y.png)">',
        encoding="utf-8",
    )
    (tmp_path / "s.css").write_text("@import 'https://example.org/s.css'; p { src: url(data:font/woff2;base64,AA) }")
    told = of_docs("check_site").faults(tmp_path)
    assert len(told) == 6
    assert sum("elsewhere" in line for line in told) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="notebooks draw with matplotlib (extra: evaluate)")
    matplotlib.use("agg")
    monkeypatch.chdir(path.parent)
    names: dict[str, object] = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    try:
        for number, cell in enumerate(cells):
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    finally:
        importlib.import_module("matplotlib.pyplot").close("all")


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    missing = [name for name in SITE if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the site needs {', '.join(missing)} (extra: docs)")
    for name in ("docs", "samples"):  # a copy: the pages that are generated must not meet those of another build
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("generated", "__pycache__"))
    for page in [*ROOT.glob("*.md"), ROOT / "LICENSE"]:
        shutil.copy(page, tmp_path)
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
    done = subprocess.run([*build, "docs", "site"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert of_docs("check_site").faults(tmp_path / "site") == []
