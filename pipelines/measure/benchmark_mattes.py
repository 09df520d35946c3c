"""A matting benchmark from its folder: mattes by any model, and the table that papers print.

    benchmark_mattes.py am-2k /data/AM-2K --model mam-vit-b
    benchmark_mattes.py him2k-natural /data/HIM2K --model lite --json scores.json
    benchmark_mattes.py videomatte /data/videomatte_512x288 --model lite

`BENCHMARKS` below says where pictures and alphas are looked for below the folder, which guidance the merge has and what
is measured: the six benchmarks of the paper as the authors' scripts run them (PM-10K is P3M-500-NP), and VideoMatte's
two sheets. Folders and names are those of the data as published, or as those scripts name them; what is assumed:

- A picture and its alpha have the same name, endings aside; of HIM2K the alphas of a picture lie in the folder of its
  name, one a subject. RefMatte-RW100 has a copy of a picture for each of its subjects.
- VideoMatte's clips are `.../CLIP/com` (or `frames`) and `.../CLIP/pha` (or `alpha`), as folders of pictures or movies.

The prompt is the tight box of the true alpha above a half, or its centre (`--prompt point`); RefMatte's text prompts
are not here. The models mam-* see the whole picture and merge with the reference's widths and box; all others go the
way that a clip of one frame goes. Clips go it too, from the first frame with a subject. Mattes are 8-bit PNGs in OUT,
cut off and not rounded, since that is what published figures were taken from.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from mam_video.cli.evaluate import print_evaluation, print_instances
from mam_video.core.errors import MamVideoError, MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.core.geometry import Box, Point
from mam_video.core.settings import Settings
from mam_video.jobs.evaluate import Judging, evaluate, evaluate_instances
from mam_video.matting.pipeline import matte_frames
from mam_video.matting.still import matte_subjects
from mam_video.media import open_clip
from mam_video.media.alphas import Alphas, Pictures, find_alphas
from mam_video.media.still_images import is_picture, pictures_in, read_alpha, read_rgb
from mam_video.metrics.instances import METRICS as INSTANCE_METRICS
from mam_video.models.base import Model
from mam_video.models.registry import MODELS, load_model
from mam_video.prompts.prompt import Prompt
from mam_video.report.files import write_json

PLATE_FOLDERS = ("com", "frames")  # beside the alphas of a clip


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Where a benchmark's pictures and alphas lie, how they are matted, what is measured.

    places     folders of pictures and of alphas below the one given; the first pair that exists is taken
    guidance   of the mam-* models' merge
    metrics    names of `metrics.METRICS`; with `instances` of `metrics.instances.METRICS`
    instances  judged by IMQ
    clips      the folder holds clips, not pictures; `places` is empty
    stretch    Grad as VideoMatte's low-resolution sheet has it
    """

    says: str
    places: tuple[tuple[str, str], ...] = ()
    guidance: Literal["alpha", "mask"] = "alpha"
    metrics: tuple[str, ...]
    instances: bool = False
    clips: bool = False
    stretch: bool = False


BENCHMARKS = {
    "ppm-100": Benchmark(
        says="PPM-100: 100 portraits of up to 4K",
        places=(("image", "matte"), ("val/fg", "val/alpha"), ("fg", "alpha")),
        metrics=("sad", "mse", "mad"),
    ),
    "am-2k": Benchmark(
        says="AM-2K: 200 animals",
        places=(("validation/original", "validation/mask"), ("original", "mask")),
        metrics=("sad", "mse", "mad", "grad", "conn"),
    ),
    "pm-10k": Benchmark(
        says="P3M-500-NP of P3M-10K: 500 portraits with their faces",
        places=(
            ("validation/P3M-500-NP/original_image", "validation/P3M-500-NP/mask"),
            ("P3M-500-NP/original_image", "P3M-500-NP/mask"),
            ("original_image", "mask"),
        ),
        metrics=("sad", "mse", "mad", "grad"),
    ),
    "him2k-natural": Benchmark(
        says="HIM2K, natural: several people a picture",
        places=(("images/natural", "alphas/natural"),),
        guidance="mask",
        metrics=INSTANCE_METRICS,
        instances=True,
    ),
    "him2k-comp": Benchmark(
        says="HIM2K, composites: several people a picture",
        places=(("images/comp", "alphas/comp"),),
        guidance="mask",
        metrics=INSTANCE_METRICS,
        instances=True,
    ),
    "rwp-636": Benchmark(
        says="RealWorldPortrait-636: one portrait a picture, judged as an instance",
        places=(("image", "alpha"),),
        metrics=("mad", "mse"),
        instances=True,
    ),
    "refmatte-rw100": Benchmark(
        says="RefMatte-RW100: 221 subjects of 100 pictures",
        places=(("image_all", "mask"), ("image_copy", "mask"), ("image", "mask")),
        guidance="mask",
        metrics=("sad", "mse", "mad"),
    ),
    "videomatte": Benchmark(
        says="VideoMatte clips of 512x288: the low-resolution sheet",
        metrics=("mad", "mse", "grad", "conn", "dtssd"),
        clips=True,
        stretch=True,
    ),
    "videomatte-hd": Benchmark(
        says="VideoMatte clips of 1920x1080: the high-resolution sheet",
        metrics=("mad", "mse", "grad", "dtssd"),
        clips=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Task:
    """A picture, the alphas of its subjects, and where their mattes go."""

    picture: Path
    alphas: tuple[Path, ...]
    mattes: tuple[Path, ...]


def tasks_of(benchmark: Benchmark, folder: Path, out: Path) -> tuple[Path, list[Task]]:
    """The folder of alphas, and what there is to matte, by name.

    Raises: UsageError, the folder is laid out otherwise.
    """
    found = [(folder / p, folder / a) for p, a in benchmark.places if (folder / p).is_dir() and (folder / a).is_dir()]
    if not found:
        wanted = " or ".join(f"{p}/ and {a}/" for p, a in benchmark.places)
        raise UsageError(f"{folder}: is not laid out as this benchmark, with {wanted}")
    pictures, alphas = found[0]
    several = {p.name: pictures_in(p) for p in alphas.iterdir() if p.is_dir()}
    single = {p.stem: p for p in alphas.iterdir() if is_picture(p)}
    tasks = []
    for picture in pictures_in(pictures):
        name = picture.stem
        if several.get(name):
            mattes = tuple(out / name / f"{a.stem}.png" for a in several[name])
            tasks.append(Task(picture, tuple(several[name]), mattes))
        elif name in single:
            tasks.append(Task(picture, (single[name],), (out / f"{name}.png",)))
        else:
            raise UsageError(f"{picture}: has no alpha of its name in {alphas}")
    if not tasks:
        raise UsageError(f"{pictures}: holds no pictures")
    return alphas, tasks


def prompt_of(alpha: np.ndarray, kind: str, *, inclusive: bool) -> Prompt | None:
    """What points at the subject of a true alpha (H, W), or None where none is above a half.

    `inclusive` gives the box as the authors' scripts do: to the last pixel's index and not beyond it.
    """
    mask = alpha > 0.5
    if not mask.any():
        return None
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x0, y0, x1, y1 = float(xs[0]), float(ys[0]), float(xs[-1]), float(ys[-1])
    if kind == "point":
        return Prompt(points=(Point((x0 + x1) / 2, (y0 + y1) / 2),))
    beyond = 0 if inclusive else 1
    return Prompt(Box(x0, y0, max(x1 + beyond, x0 + 1), max(y1 + beyond, y0 + 1)))


def matte_still(model: Model, picture: np.ndarray, prompts: Sequence[Prompt], settings: Settings) -> list[np.ndarray]:
    """(H, W) float32 for each prompt: as the reference where the model merges as it does, else as a clip of a frame."""
    if settings.model.name.startswith("mam-"):
        return matte_subjects(model, picture, prompts, settings.matte)
    alphas = []
    for prompt in prompts:
        with closing(matte_frames([Frame(0, 0, Fraction(1, 24), picture)], prompt, model, settings)) as mattes:
            alphas.append(next(mattes).alpha)
    return alphas


def write_alpha(path: Path, alpha: np.ndarray) -> None:
    """8 bits, cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), (alpha * 255).astype(np.uint8)):
        raise MediaError(f"{path}: cannot be written")


def matte_pictures(
    tasks: Sequence[Task], model: Model, settings: Settings, kind: str, told: Callable[[str], None]
) -> None:
    """Every task that is not done: its mattes are written. What has nothing above a half gets an empty matte."""
    for task in tasks:
        if not all(path.exists() for path in task.mattes):
            picture = read_rgb(task.picture)
            truths = [read_alpha(path) for path in task.alphas]
            if any(truth.shape != picture.shape[:2] for truth in truths):
                raise UsageError(f"{task.picture}: its alpha has another size")
            inclusive = settings.model.name.startswith("mam-")
            prompts = [prompt_of(truth, kind, inclusive=inclusive) for truth in truths]
            alphas = iter(matte_still(model, picture, [p for p in prompts if p is not None], settings))
            for path, prompt in zip(task.mattes, prompts, strict=True):
                write_alpha(path, next(alphas) if prompt is not None else np.zeros(picture.shape[:2], np.float32))
        told(task.picture.stem)


def plate_frames(plate: Alphas, start: int) -> Iterator[Frame]:
    """The pictures of a clip from frame `start` on."""
    if isinstance(plate, Pictures):
        for index, path in enumerate(plate.files[start:], start):
            yield Frame(index, index, Fraction(1, 24), read_rgb(path))
    else:
        with open_clip(plate.path) as reader:
            yield from reader.frames(start)


def matte_clips(
    folder: Path, out: Path, model: Model, settings: Settings, kind: str, limit: int, told: Callable[[str], None]
) -> None:
    """Every clip of the folder that is not done, into OUT/CLIP/pha."""
    truths, plates = find_alphas(folder, ("pha", "alpha")), find_alphas(folder, PLATE_FOLDERS)
    if truths.keys() != plates.keys() or any(truths[n].path == plates[n].path for n in truths):
        raise UsageError(f"{folder}: is not laid out as VideoMatte, with CLIP/com/ and CLIP/pha/")
    for name in list(truths)[: limit or None]:
        target = out / name / "pha"
        if not target.exists():
            partial = out / name / ".pha.part"
            for frame, alpha in matted_clip(plates[name], truths[name], model, settings, kind):
                write_alpha(partial / f"{frame}.png", alpha)
            partial.replace(target)
        told(name)


def matted_clip(
    plate: Alphas, truth: Alphas, model: Model, settings: Settings, kind: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Frame names and alphas of a clip, prompted on the first frame with a subject; empty alphas before it."""
    names = truth.names if isinstance(truth, Pictures) else None
    start, prompt = 0, None
    for start, (name, alpha) in enumerate(truth):
        prompt = prompt_of(alpha, kind, inclusive=False)
        if prompt is not None:
            break
        yield (name if names else f"{start:04d}"), np.zeros_like(alpha)
    if prompt is None:
        return
    with closing(matte_frames(plate_frames(plate, start), prompt, model, settings)) as mattes:
        for matted in mattes:
            index = matted.frame.index
            if names and index >= len(names):
                raise UsageError(f"{plate.path}: has more frames than {truth.path}")
            yield (names[index] if names else f"{index:04d}"), matted.alpha


def settings_from(options: argparse.Namespace, benchmark: Benchmark) -> Settings:
    """Defaults < file < what the benchmark asks of mam-* models < flags."""
    settings = Settings().with_file(options.config) if options.config else Settings()
    model = {"name": options.model, "device": options.device, "precision": options.precision,
             "sam_weights": options.sam_weights, "mam_weights": options.mam_weights}  # fmt: skip
    settings = settings.with_values({"model": {k: v for k, v in model.items() if v is not None}}, "command line")
    if options.model.startswith("mam-") and not benchmark.clips:
        matte = {"guidance": options.guidance or benchmark.guidance, "box_clean": True, "scale_widths": False}
        settings = settings.with_values({"matte": matte}, "benchmark")
    elif options.guidance:
        settings = settings.with_values({"matte": {"guidance": options.guidance}}, "command line")
    return settings


def run(options: argparse.Namespace) -> None:
    benchmark = BENCHMARKS[options.benchmark]
    settings = settings_from(options, benchmark)
    out = options.out or Path("runs/benchmarks") / options.benchmark / re.sub(r"[^\w.-]+", "_", options.model)
    if out.exists() and any(out.iterdir()) and not options.reuse:
        raise UsageError(f"{out}: holds mattes already; give --reuse to keep and complete them, or another --out")
    alphas, tasks = (options.folder, []) if benchmark.clips else tasks_of(benchmark, options.folder, out)
    tasks = tasks[: options.limit or None]
    model = load_model(settings.model)
    started, done = time.perf_counter(), 0

    def told(name: str) -> None:
        nonlocal done
        done += 1
        if not options.quiet and (done % 10 == 0 or benchmark.clips):
            count = f" of {len(tasks)}" if tasks else ""
            pace = (time.perf_counter() - started) / done
            print(f"{options.benchmark}: {done}{count}, {name}, {pace:.2f} s each", file=sys.stderr, flush=True)

    if benchmark.clips:
        matte_clips(options.folder, out, model, settings, options.prompt, options.limit, told)
    else:
        matte_pictures(tasks, model, settings, options.prompt, told)

    partial = options.limit > 0
    found: Any
    if benchmark.instances:
        found = evaluate_instances(out, alphas, metrics=benchmark.metrics, partial=partial)
        print_instances(found, options.worst)
    else:
        judging = Judging(metrics=benchmark.metrics, stills=not benchmark.clips, stretch_grad=benchmark.stretch,
                          partial=partial)  # fmt: skip
        found = evaluate(out, alphas, judging)
        print_evaluation(found, options.worst)
    if options.json:
        made = {"benchmark": options.benchmark, "model": options.model, "weights_sha256": model.weights,
                "prompt": options.prompt, "guidance": settings.matte.guidance}  # fmt: skip
        write_json(options.json, made | found.as_dict(), "the scores")


def main(arguments: Sequence[str] | None = None) -> int:
    names = "".join(f"  {name:16}{b.says}\n" for name, b in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=f"benchmarks:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=list(BENCHMARKS), metavar="BENCHMARK")
    parser.add_argument("folder", type=Path, help="as unpacked")
    parser.add_argument("--model", default="lite", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--prompt", default="box", choices=["box", "point"])
    parser.add_argument("--guidance", choices=["mask", "alpha"], help="of the merge, in place of the benchmark's")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the mattes; runs/benchmarks/BENCHMARK/MODEL")
    parser.add_argument("--reuse", action="store_true", help="keep the mattes that are there, make the others")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N pictures or clips")
    parser.add_argument("--config", metavar="PRESET|FILE.toml")
    parser.add_argument("--device", metavar="NAME")
    parser.add_argument("--precision", default="float32", metavar="NAME", help="float32, as published; auto is faster")
    parser.add_argument("--sam-weights", metavar="FILE")
    parser.add_argument("--mam-weights", metavar="FILE")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="how many of the worst to name")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except MamVideoError as error:
        print(f"benchmark_mattes: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
