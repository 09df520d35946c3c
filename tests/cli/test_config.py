"""`mam-video config`, the options made from the settings, and the files written from them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mam_video.cli import main
from mam_video.cli.main import COMMANDS, build_parser
from mam_video.cli.options import settings_from
from mam_video.cli.settings_text import default_toml, settings_page
from mam_video.core.sections import all_knobs
from mam_video.core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_written_files_are_up_to_date() -> None:
    again = "run: python pipelines/tools/write_settings.py"
    assert (ROOT / "configs" / "default.toml").read_text(encoding="utf-8") == default_toml(), again
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page(), again


def test_the_default_file_is_complete() -> None:
    text = default_toml()
    values = tomllib.loads(text)
    for each in all_knobs():
        if each.default is None:
            assert f"# {each.name} = " in text
        else:
            assert values[each.section][each.name] == each.default


def test_every_option_sets_its_setting() -> None:
    for each in all_knobs():
        if not each.knob.flags:
            continue
        if each.kind is bool:
            given, value = [each.knob.flags[-1]], not each.default
        elif each.choices:
            value = each.choices[-1]
            given = [each.knob.flags[-1], value]
        else:
            other = "classic" if each.key == "model.name" else {str: "auto", int: 7, float: 0.5}[each.kind]
            value = each.knob.example or other
            given = [each.knob.flags[-1], str(value)]
        parser = build_parser("matte")
        settings = settings_from(parser.parse_args(["matte", "plate.mov", *given]))
        assert getattr(getattr(settings, each.section), each.name) == value, each.key


def test_show_names_the_source_of_each_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[track]\nstand = 9\n")
    options = ["--config", "fast", "--config", str(mine), "--set", "smooth.radius=2", "--choke", "1", "--bg", "checker"]
    assert main(["config", "show", *options, "--edge", "dancer:grow=2", "--fps", "25"]) == 0
    said = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for line in (
        "side = 480 # preset fast", f"stand = 9 # {mine}", "radius = 2 # --set", "choke = 1.0 # --choke",
        'background = "checker" # --bg', "grow = 2.0 # --edge dancer:grow", 'device = "auto" # default',
        'fps = "25" # --fps', "# batch: 1 on a CPU, 8 on a GPU # default",
    ):  # fmt: skip
        assert line in lines, line
    again = tmp_path / "again.toml"
    again.write_text(said)
    settings = Settings().with_file(str(again))
    assert settings.track.stand == 9 and settings.finish.choke == 1 and settings.edges == {"dancer": {"grow": 2.0}}
    assert settings.input.fps == "25" and settings.model.batch is None


def test_list_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["default", "fast", "quality"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("mate plate.mov", "no command is called 'mate'; did you mean 'matte'?"),
        ("Matte plate.mov", "did you mean 'matte'?"),
        ("dog.mp4 --box 1,2,3,4", "did you mean `mam-video matte dog.mp4 ...`?"),
        ("matte plate.mov --Box 1,2,3,4", "unknown option --Box (did you mean '--box'?); try `mam-video matte --help`"),
        ("matte plate.mov out.mov --box 1,2,3,4", "outputs are given with -o, as in -o out.mov"),
        ("matte plate.mov --box 1 2 3 4", "write the numbers of a box or point with commas"),
        ("matte plate.mov --box -1,2,3,4 -o m.mov", "plate.mov: no such file"),
        ("weights gte", "ACTION must be one of list, get, add, verify, is 'gte' (did you mean 'get'?)"),
        ("matte plate.mov --progress bra", "--progress must be one of bar, json, is 'bra' (did you mean 'bar'?)"),
        ("matte plate.mov --handles x", "--handles must be a whole number, is 'x'; try `mam-video matte --help`"),
        ("matte plate.mov -o", "--output needs a value"),
        ("matte plate.mov --smooth 5", "mam-video: --smooth must be between 0 and 1, is 5"),
        ("matte plate.mov --device gpu", "mam-video: --device must be one of auto, cpu, cuda, mps, is 'gpu'"),
        ("matte plate.mov --feather 2px", "mam-video: --feather must be a number, is '2px'"),
        ("matte plate.mov --background x --set smooth.strength=5", "--set: smooth.strength must be between 0 and 1"),
        ("matte plate.mov --plate-alpha none", "--plate-alpha must be one of auto, straight, premultiplied, ignore"),
        ("info plate.mov --fps fast", "--fps cannot be used: rate 'fast' is not a number"),
        ("config show --set smoth.strength=1", "unknown section [smoth]; did you mean 'smooth'?"),
        ("config show --config fst", "fst: no such preset or file; did you mean 'fast'?"),
    ],
)
def test_mistakes_are_one_line_with_a_hint(capsys: pytest.CaptureFixture[str], given: str, says: str) -> None:
    assert main(given.split()) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and said.startswith(f"usage: mam-video {command}")
    assert "%%" not in said and "None" not in said


def test_the_programs_help_imports_little() -> None:
    """`mam-video --help` answers at once: numbers, pictures and models are not imported for it."""
    code = (
        "import sys\nfrom mam_video.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(', '.join({'torch', 'numpy', 'av', 'cv2', 'rich'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
