"""The pages of `--help`: as stored, short, with an example and a default in every line; and shell completion."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mam_video.cli import main
from mam_video.cli.completion import SHELLS, script
from mam_video.cli.main import build_parser
from mam_video.cli.parser import Parser, help_of

PAGES = Path(__file__).with_name("help")  # written again by: python -m tests.cli.test_help
LONGEST = 60


def walk(parser: argparse.ArgumentParser) -> Iterator[Parser]:
    assert isinstance(parser, Parser)
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from walk(child)


def page_name(parser: Parser) -> str:
    return f"{parser.prog.replace(' ', '-')}.txt"


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


def test_every_page_is_as_stored() -> None:
    found = {page_name(parser): parser.format_help() for parser in walk(build_parser())}
    assert sorted(found) == sorted(path.name for path in PAGES.iterdir())
    for name, text in found.items():
        assert text == (PAGES / name).read_text(encoding="utf-8"), f"{name}: python -m tests.cli.test_help writes it"


def test_no_page_is_long() -> None:
    for parser in walk(build_parser()):
        assert len(parser.format_help().splitlines()) <= LONGEST, parser.prog


def test_every_page_has_a_sentence_then_an_example_that_parses() -> None:
    for parser in walk(build_parser()):
        text = parser.format_help()
        sentence = text.split("\n\n")[1]
        assert sentence[0].isupper() and "." in sentence, parser.prog
        page = parser.description or ""
        lines = re.findall(r"^  (mam-video (?:.*\\\n)*.*)$", page, flags=re.MULTILINE)
        assert lines, parser.prog
        for line in lines:
            build_parser().parse_args(shlex.split(line.replace("\\\n", " "))[1:])


def test_every_option_tells_what_holds_without_it() -> None:
    for parser in walk(build_parser()):
        for action in parser._actions:
            if action.option_strings and action.help != argparse.SUPPRESS:
                untold = {"-h", "--help-all", "--version", "--show-completion"}.intersection(action.option_strings)
                assert untold or re.search(r"\((default: .+|required)\)", help_of(action)), (parser.prog, action.dest)


def test_every_option_is_on_the_long_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["matte", "--help-all"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0 and "--guidance" in said and "output kinds:" in said and "ProRes 4444" in said


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from mam_video.cli.main import build_parser;"
        "[parser.format_help() for parser in build_parser().commands.values()];"
        "print(sorted({'numpy', 'av', 'torch', 'cv2', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("arguments", "without"), [
    ("--help", "numpy av torch cv2 rich"),
    ("matte --help", "numpy av torch cv2 rich"),
    ("mate a.mov", "numpy av torch cv2 rich"),
    ("matte a.mov --Box 1,2,3,4", "numpy av torch cv2 rich"),
    ("matte a.mov --smooth 5 --box 1,2,3,4 -o a.mov", "numpy av torch cv2 rich"),
    ("matte a.mov --box 1,2,3,4 -o a.mov", "torch"),  # there is no such clip
    ("matte a.mov --box 1,2,3,4 -o a.avi", "torch"),
])  # fmt: skip
def test_help_and_wrong_arguments_start_quickly(arguments: str, without: str) -> None:
    """A time bound would hold on one machine only: what takes the time is to import these."""
    program = (
        "import sys; from mam_video.cli import main\n"
        "try: main(sys.argv[1].split())\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.argv[2].split()) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, arguments, without], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("arguments", "says"), [
    ("mate a.mov", "did you mean 'matte'"), ("a.mov --box 1,2,3,4", "mam-video matte a.mov"),
    ("matte a.mov --Box 1,2,3,4", "did you mean '--box'"), ("info a.mov --jsn", "try `mam-video info --help`"),
    ("weights gett", "did you mean 'get'"),
    ("matte a.mov --device gpu --box 1,2,3,4 -o a.mov", "--device must be one of"),
    ("--show-completion fsh", "did you mean 'fish'"), ("matte a.mov --box -10,2,3,4 -o m.mov", "a.mov: no such file"),
])  # fmt: skip
def test_slips_are_told(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(arguments.split())
    said = capsys.readouterr().err
    assert code == 2 and says in said and said.count("\n") == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_options_and_values(shell: str) -> None:
    text = script(shell, build_parser())
    for word in ("matte", "save-track", "mam-vit-b", "reprompt", "quality", "add"):
        assert word in text
    if shell != "fish" and shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=text, text=True, capture_output=True).stderr == ""


def test_bash_completes() -> None:
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")

    def completed(*words: str) -> set[str]:
        ask = f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; _mam_video;"
        text = f'{script("bash", build_parser())}\n{ask} printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("mam-video", "ma") == {"matte"}
    assert completed("mam-video", "matte", "a.mov", "--model", "mam-vit-") == {"mam-vit-b", "mam-vit-l", "mam-vit-h"}
    assert "--save-track" in completed("mam-video", "matte", "a.mov", "--sa")
    assert completed("mam-video", "weights", "ve") == {"verify"}


def test_completion_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main(["--install-completion"])
    file = tmp_path / ".config" / "fish" / "completions" / "mam-video.fish"
    assert stopped.value.code == 0 and str(file) in capsys.readouterr().out and "matte" in file.read_text()


if __name__ == "__main__":
    import os

    os.environ.update(COLUMNS="80", NO_COLOR="1")
    PAGES.mkdir(exist_ok=True)
    for parser in walk(build_parser()):
        (PAGES / page_name(parser)).write_text(parser.format_help(), encoding="utf-8")
