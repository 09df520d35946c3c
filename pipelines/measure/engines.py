"""Would another engine run the model `lite` faster? PyTorch against ONNX Runtime and OpenVINO, part by part.

    pip install onnx onnxruntime openvino
    python pipelines/measure/engines.py [--threads 2]

The three parts of the shipped model (embed, segment, matte) are exported to ONNX at the sizes that a clip has and timed
in turns, float32, one picture; median of 20 after a warm-up. The largest difference of what comes out stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam_video.models.devices import cpu_name
from mam_video.models.lite import WEIGHTS, LiteModel, folded
from mam_video.models.lite_layers import Features
from mam_video.models.lite_net import MATCH_MAPS, PROMPT_MAPS, LiteNet
from mam_video.training.checkpoints import architecture_in, load_weights


class Embed(nn.Module):
    def __init__(self, net: LiteNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        f2, f4 = self.net.backbone.low(F.avg_pool2d(x, 2))
        f = self.net.segmenter.features(f4, *self.net.backbone.deep(f4))
        return f.l4, f.l8, f.top, f.key, f.look, f2, f4


class Segment(nn.Module):
    def __init__(self, net: LiteNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, l4: Tensor, l8: Tensor, top: Tensor, prompts: Tensor, matches: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.segmenter.decode(Features(l4, l8, top, l8, l8), prompts, matches)


class Matte(nn.Module):
    def __init__(self, net: LiteNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, f2: Tensor, f4: Tensor, l8: Tensor, top: Tensor, logits: Tensor) -> Tensor:
        alpha: Tensor = self.net.matte(x, f2, f4, Features(f4, l8, top, l8, l8), logits)[0]
        return alpha


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import openvino
    except ImportError as e:
        print(f"engines: {e.name} is missing: pip install onnx onnxruntime openvino", file=sys.stderr)
        return 1
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    net = LiteNet(architecture_in(WEIGHTS))
    load_weights(net, WEIGHTS)
    net = folded(net.eval()).requires_grad_(False).to(memory_format=torch.channels_last)
    side = LiteModel.view_size
    x = torch.rand(1, 3, side, side) * 2 - 1
    maps = torch.rand(1, PROMPT_MAPS, side // 4, side // 4), torch.rand(1, MATCH_MAPS, side // 16, side // 16)
    with torch.inference_mode():
        l4, l8, top, _, _, f2, f4 = Embed(net)(x)
        logits, _ = Segment(net)(l4, l8, top, *maps)
    parts: list[tuple[str, nn.Module, tuple[Tensor, ...]]] = [
        ("embed", Embed(net), (x,)),
        ("segment", Segment(net), (l4, l8, top, *maps)),
        ("matte", Matte(net), (x, f2, f4, l8, top, logits)),
    ]
    print(f"{cpu_name()}, {threads} threads, view {side}, ms a picture: PyTorch, ONNX Runtime, OpenVINO")
    totals = np.zeros(3)
    with tempfile.TemporaryDirectory() as folder:
        for name, module, given in parts:
            path = Path(folder) / f"{name}.onnx"
            names = [f"input{i}" for i in range(len(given))]
            torch.onnx.export(module, given, str(path), opset_version=17, dynamo=False, input_names=names)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(str(path), options)
            core = openvino.Core()
            hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
            compiled = core.compile_model(core.read_model(str(path)), "CPU", hints)
            feed = {n: t.contiguous().numpy() for n, t in zip(names, given, strict=True)}
            last = [t.contiguous(memory_format=torch.channels_last) for t in given]

            def ours(module: nn.Module = module, last: list[Tensor] = last) -> np.ndarray:
                with torch.inference_mode():
                    out = module(*last)
                return np.asarray((out[0] if isinstance(out, tuple) else out).numpy())

            def onnx_runtime(session: object = session, feed: dict[str, np.ndarray] = feed) -> np.ndarray:
                return np.asarray(session.run(None, feed)[0])  # type: ignore[attr-defined]

            def open_vino(compiled: object = compiled, feed: dict[str, np.ndarray] = feed) -> np.ndarray:
                return np.asarray(compiled(feed)[0])  # type: ignore[operator]

            times = timed([ours, onnx_runtime, open_vino])
            totals += times
            truth = ours()
            off = [float(np.abs(f() - truth).max()) for f in (onnx_runtime, open_vino)]
            print(f"{name:8} {_row(times)}   differ by {off[0]:.1e}, {off[1]:.1e}", flush=True)
    print(
        f"{'all':8} {_row(totals)}   {totals[0] / totals[1]:.2f}x and {totals[0] / totals[2]:.2f}x as fast as PyTorch"
    )
    return 0


def timed(runs: list[Callable[[], np.ndarray]], repeat: int = 20) -> np.ndarray:
    """Median milliseconds of each, taken in turns."""
    found: list[list[float]] = [[] for _ in runs]
    for i in range(repeat + 3):
        for run, times in zip(runs, found, strict=True):
            start = time.perf_counter()
            run()
            if i >= 3:
                times.append((time.perf_counter() - start) * 1e3)
    return np.array([statistics.median(t) for t in found])


def _row(times: np.ndarray) -> str:
    return " ".join(f"{t:7.1f}" for t in times)


if __name__ == "__main__":
    sys.exit(main())
