"""Install the package as a newcomer does, and matte the sample with it: wheel, empty environment, PATH.

    python pipelines/tools/try_install.py [--torch REQUIREMENT] [--extra NAME] [--from checkout]

Everything happens in a temporary folder. HOME lies in it, and nothing of this environment is passed on but HOME and
PATH; so pip finds PyTorch where its own configuration says. The committed state of the repository is used. Prints the
installed sizes. `make test-install` runs it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOX = "290,44,604,620"  # of the rabbit in the sample
PARTS = ("torch", "nvidia", "triton", "torchvision", "cv2", "opencv_python_headless.libs", "av", "av.libs", "mam_video")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--torch", action="append", default=[], metavar="REQUIREMENT", help="installed before, as a CPU build"
    )
    parser.add_argument("--extra", action="append", default=[], metavar="NAME", help="an extra of the package")
    parser.add_argument(
        "--from", dest="origin", choices=("wheel", "checkout"), default="wheel", help="what is installed"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mam-video-install-") as folder:
        return _try(Path(folder), options.torch, options.extra, options.origin)


def _try(folder: Path, torch: Sequence[str], extras: Sequence[str], origin: str) -> int:
    checkout, home, used = folder / "checkout", folder / "home", folder / "venv"
    home.mkdir()
    checkout.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(checkout)], input=archive, check=True)
    environment = {"HOME": str(home), "PATH": f"{used / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"}

    def run(*command: str, where: Path = folder) -> str:
        print("$", " ".join(command), flush=True)
        start = time.monotonic()
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
        print(f"  ({time.monotonic() - start:.0f} s)", flush=True)
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    venv.create(used, with_pip=True)
    own = str(checkout)
    if origin == "wheel":
        run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", str(checkout))
        (wheel,) = (folder / "dist").glob("mam_video-*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        own = str(wheel)
    if torch:
        run("python", "-m", "pip", "install", "--quiet", *torch)
    run("python", "-m", "pip", "install", "--quiet", own + (f"[{','.join(extras)}]" if extras else ""))
    shutil.copy(checkout / "samples" / "rabbit.mp4", folder)
    shutil.rmtree(checkout)  # what runs from here on is what was installed
    print(run("mam-video", "--version").strip())
    print(run("mam-video", "matte", "rabbit.mp4", "--box", BOX, "--range", "0-4", "-o", "rabbit.mov").strip())
    checks = run("mam-video", "verify", "rabbit.mov", "--against", "rabbit.mp4", "--range", "0-4")
    if "WRONG" in checks or not re.search(r"^ok +frames: 5$", checks, flags=re.MULTILINE):
        raise SystemExit(checks)
    _print_sizes(used)
    return 0


def _print_sizes(environment: Path) -> None:
    (packages,) = environment.glob("lib/python*/site-packages")
    print(f"installed: {_size(environment):.2f} GB in all")
    for name in PARTS:
        if (packages / name).exists():
            print(f"  {name:28}{_size(packages / name):.3f} GB")


def _size(folder: Path) -> float:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink()) / 1e9


if __name__ == "__main__":
    sys.exit(main())
