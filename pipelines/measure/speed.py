"""How much faster than the obvious loop? The part of `benchmark.py` that measures it.

The obvious loop: OpenCV reads a frame, segment-anything's SamPredictor embeds it and answers the box, M2M runs as
trained, OpenCV merges, PyAV writes ProRes 4444; float32, one frame at a time, nothing beside anything else. Ours is
`matte_clip` on the same clip, weights and device, smoothing off, the whole frame as the view. Random weights: they take
as long as trained ones, but lose the subject: so both loops follow the same saved track, and neither asks the
segmenter. Alphas of the first frame are compared before anything is timed; then the two take turns on the same clip,
and the best of each counts.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam as PackageSam

from mam_video import Box, Prompt, Settings, matte_clip
from mam_video.core.settings import MatteSettings
from mam_video.matting.still import matte_picture
from mam_video.models.m2m import M2M
from mam_video.models.mam import MamModel
from mam_video.models.merge import merge_levels
from mam_video.models.sam import VARIANTS, FastEncoder, Sam

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "rabbit.mp4"
BOX = Box(270, 44, 604, 624)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", choices=("vit-b", "vit-l", "vit-h"), default="vit-b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--frames", type=int, default=3, help="frames of the clip that each loop mattes")
    parser.add_argument("--repeat", type=int, default=1, help="how often the two take turns")
    parser.set_defaults(run=run)


class ObviousLoop:
    """What one writes after reading the two READMEs."""

    def __init__(self, sam: Any, m2m: M2M, device: str) -> None:
        self.predictor = SamPredictor(sam.to(device).eval())
        self.m2m = m2m.to(device).eval()
        self.device = device

    @torch.inference_mode()
    def alpha(self, rgb: np.ndarray, box: np.ndarray | None, mask: np.ndarray | None = None) -> np.ndarray:
        """Alpha (H, W) float32 of what the box shows, or of a known mask (H, W) bool."""
        predictor = self.predictor
        predictor.set_image(rgb)
        if mask is None:
            masks, scores, logits = predictor.predict(box=box, multimask_output=True)
            best = int(scores.argmax())
            mask, low = masks[best], (logits[best] > 0).astype(np.float32)
        else:
            h, w = predictor.input_size
            low = np.zeros((256, 256), np.float32)
            shrunk = cv2.resize(mask.astype(np.float32), (w // 4, h // 4), interpolation=cv2.INTER_AREA)
            low[: h // 4, : w // 4] = shrunk > 0.5
        guide = torch.from_numpy(low)[None, None].to(self.device)
        scaled = predictor.transform.apply_image(rgb)
        picture = torch.as_tensor(scaled, device=self.device).permute(2, 0, 1)[None]
        maps = self.m2m(predictor.features, predictor.model.preprocess(picture), guide)
        h, w = scaled.shape[:2]
        size = (rgb.shape[0], rgb.shape[1])
        levels = [
            torch.nn.functional.interpolate(m[..., :h, :w], size=size, mode="bilinear", align_corners=False)[0, 0]
            for m in maps
        ]
        os8, os4, os1 = (level.cpu().numpy() for level in levels)
        return merge_levels(os8, os4, os1, mask, MatteSettings())

    def run(self, plate: Path, out: Path, masks: Sequence[np.ndarray]) -> None:
        """Matte a clip by the masks of its frames, (H, W) bool each."""
        capture = cv2.VideoCapture(str(plate))
        with av.open(str(out), "w") as container:
            stream: Any = container.add_stream("prores_ks", rate=Fraction(25), options={"profile": "4444"})
            stream.pix_fmt = "yuva444p10le"
            for mask in masks:
                read, bgr = capture.read()
                if not read:
                    break
                rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                alpha = self.alpha(rgb, None, mask)
                rgba = np.dstack([rgb, np.rint(alpha * 255).astype(np.uint8)])
                if not stream.codec_context.is_open:
                    stream.height, stream.width = rgb.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
            container.mux(stream.encode(None))


def run(options: argparse.Namespace) -> int:
    torch.manual_seed(1)
    sam, m2m = package_sam(options.variant), M2M()
    state = {name: value.clone() for name, value in sam.state_dict().items()}
    ours = MamModel.from_states(options.variant, state, m2m.state_dict(), options.device)
    obvious = ObviousLoop(sam, m2m, options.device)
    settings = Settings().with_values(
        {"view": {"roi": "frame"}, "smooth": {"strength": 0.0}, "output": {"overwrite": True}}, "benchmark"
    )
    print(f"SAM {options.variant}, {options.device}, ours in {ours.precision}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / "plate.mp4"
        first = cut_clip(SAMPLE, plate, options.frames)
        expected = obvious.alpha(first, np.array(BOX.xyxy))
        found = matte_picture(ours, first, Prompt(BOX))
        difference = np.abs(found - expected)
        print(f"alphas of the first frame differ by {difference.max():.2g} at most; "
              f"{(difference > 1e-3).mean():.4%} of the pixels by more than 0.001")  # fmt: skip
        _stages(obvious, ours, first, options.device)

        mask = np.zeros(first.shape[:2], np.uint8)
        middle = round((BOX.x0 + BOX.x1) / 2), round((BOX.y0 + BOX.y1) / 2)
        cv2.ellipse(mask, middle, (round(BOX.width / 2), round(BOX.height / 2)), 0, 0, 360, 255, -1)
        cv2.imwrite(f"{folder}/mask.png", mask)
        masks, track = [mask > 127] * options.frames, Path(folder) / "saved.track"
        for name in (f"m.{i:04d}.png" for i in range(options.frames)):
            shutil.copy(f"{folder}/mask.png", _made(Path(folder) / "masks") / name)
        matte_clip(plate, Path(folder) / "b.mov", None, settings, model=ours, masks=Path(folder) / "masks",
                   track_to=track)  # fmt: skip
        times: dict[str, list[float]] = {"obvious": [], "ours": []}
        for _ in range(options.repeat):
            times["obvious"].append(_seconds(lambda: obvious.run(plate, Path(folder) / "a.mov", masks), options.device))
            start = time.perf_counter()
            report = matte_clip(plate, Path(folder) / "b.mov", None, settings, model=ours, track_from=track)
            times["ours"].append(time.perf_counter() - start)
            print(f"  {report.timings()}", flush=True)
        old, new = min(times["obvious"]), min(times["ours"])
        n = options.frames
        print(
            f"file to file, {n} frames of 1280x720: {old / new:.2f}x as fast "
            f"({new / n:.1f} s a frame, was {old / n:.1f})"
        )
    return 0


def _stages(obvious: ObviousLoop, ours: MamModel, rgb: np.ndarray, device: str) -> None:
    """What each measure gave: each line is the stage with one measure more, against the stage as it was at first."""
    predictor = obvious.predictor
    square = predictor.model.preprocess(
        torch.as_tensor(predictor.transform.apply_image(rgb), device=device).permute(2, 0, 1)[None]
    )
    encoder, m2m, features = predictor.model.image_encoder, obvious.m2m, predictor.features
    mask = torch.zeros(1, 1, 256, 256, device=device)
    mask[..., 60:180, 60:180] = 1

    def fast(precision: torch.dtype, rows: int) -> torch.nn.Module:
        return FastEncoder(copy.deepcopy(encoder), precision, rows).to(device)  # it takes the weights over

    folded = {name: m2m.fold().to(memory_format=layout) for name, layout in _LAYOUTS.items()}
    stages: dict[str, list[tuple[str, torch.nn.Module]]] = {
        "encoder": [
            ("the package's", encoder),
            ("fused attention, a head at a time; no projections of padding", fast(torch.float32, 64)),
            ("the same, 8 rows of a head at a time", fast(torch.float32, 8)),
        ],
        "M2M": [
            ("unfolded", m2m),
            ("folded", folded["contiguous"]),
            ("folded, channels-last", folded["channels-last"]),
        ],
    }
    if ours.precision != torch.float32:
        half = f"{ours.precision}".removeprefix("torch.")
        stages["encoder"].append((f"the same in {half}", fast(ours.precision, 8)))
        stages["M2M"].append((f"the same in {half}", m2m.fold().in_precision(ours.precision).to(device)))
    inputs = {"encoder": (square,), "M2M": (features, square, mask)}
    with torch.inference_mode():
        for stage, ways in stages.items():
            best = [float("inf")] * len(ways)
            for _ in range(2):  # in turns, so that what else the machine does falls on all of them
                for i, (_, network) in enumerate(ways):
                    best[i] = min(best[i], _seconds(partial(network, *inputs[stage]), device))
            for (name, _), seconds in zip(ways, best, strict=True):
                print(f"  {stage}, {name}: {seconds:.2f} s, {best[0] / seconds:.2f}x", flush=True)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def package_sam(variant: str) -> Any:
    """Return the package's own SAM with random weights; `tiny`, for tests, is in none of its registries."""
    parts = Sam(VARIANTS[variant])
    return PackageSam(parts.image_encoder, parts.prompt_encoder, parts.mask_decoder)


def there_and_back(source: Path, to: Path, count: int, size: tuple[int, int]) -> None:
    """Write `count` frames of a clip, played forth and back, at a size (width, height)."""
    with av.open(str(source)) as film:
        pictures = [
            cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_AREA)
            for _, frame in zip(range(count), film.decode(video=0), strict=False)
        ]
    pictures += pictures[-2:0:-1]
    with av.open(str(to), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(count):
            picture = np.ascontiguousarray(pictures[i % len(pictures)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def cut_clip(source: Path, to: Path, count: int) -> np.ndarray:
    """The first `count` frames as a clip; returns the first, (H, W, 3) uint8 RGB."""
    with av.open(str(source)) as film, av.open(str(to), "w") as container:
        stream: Any = None
        first: np.ndarray = np.zeros(0)
        for i, frame in enumerate(film.decode(video=0)):
            if i == count:
                break
            if stream is None:
                stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                first = np.asarray(frame.to_ndarray(format="rgb24"))
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return first


def _seconds(work: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
