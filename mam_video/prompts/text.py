"""Find the first box from words, by an open-vocabulary detector.

Grounding DINO (Liu et al., arXiv 2303.05499) by way of transformers, an optional dependency. Its weights are a folder,
or a name on the Hugging Face hub, from which they are fetched once.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np

from mam_video.core.errors import UsageError, WeightsError, need_extra
from mam_video.core.geometry import Box
from mam_video.core.settings import TextSettings

if TYPE_CHECKING:
    import torch

_HUB_SECONDS: Final = 1.0


class Spotted(NamedTuple):
    """A detection in a picture.

    box     in whole pixels of the picture, within it
    score   the detector's score, 0..1
    others  how many more boxes reach the threshold
    """

    box: Box
    score: float
    others: int


def find_by_text(picture: np.ndarray, text: str, settings: TextSettings, device: str = "auto") -> Spotted:
    """Return the best box for `text` in `picture`, (H, W, 3) uint8 RGB as displayed.

    Args:
        device: as in `ModelSettings`; the detector computes in float32.
    Raises: UsageError, transformers is not installed, the text is empty, or nothing reaches `settings.threshold`;
        WeightsError, the detector's weights cannot be had.
    """
    wanted = " ".join(text.lower().split()).rstrip(" .")
    if not wanted:
        raise UsageError("--text is empty; say what the subject is, as --text 'the dancer in red'")
    need_extra("transformers", "text", "--text")
    own = _is_here(settings.model)  # before torch and transformers are loaded, which takes seconds

    from mam_video.models.devices import resolve_device

    scores, boxes = _detect(picture, f"{wanted}.", settings.model, resolve_device(device), own)
    best = int(np.argmax(scores))
    if scores[best] < settings.threshold:
        raise UsageError(
            f"--text '{text}': nothing like it was found (the best fits by {scores[best]:.2f}, "
            f"{settings.threshold:g} is wanted); say it otherwise, draw a --box, or lower --set text.threshold"
        )
    h, w = picture.shape[:2]
    x0, y0, x1, y1 = (float(v) for v in np.rint(boxes[best] * [w, h, w, h]))
    x0, y0 = min(max(x0, 0), w - 1), min(max(y0, 0), h - 1)
    box = Box(x0, y0, max(min(x1, w), x0 + 1), max(min(y1, h), y0 + 1))
    return Spotted(box, float(scores[best]), int((scores >= settings.threshold).sum()) - 1)


def _detect(
    picture: np.ndarray, words: str, name: str, device: torch.device, own: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return score and box of each of the detector's queries: (n,) in 0..1, and (n, 4) x0, y0, x1, y1 in 0..1.

    A query's score is the largest of its tokens'. `own` as for `_load`.
    """
    import torch

    processor, model = _load(name, own)
    model = model.to(device).eval()
    inputs = processor(images=picture, text=words, return_tensors="pt").to(device)
    with torch.inference_mode():
        found = model(**inputs)
    scores = found.logits[0].sigmoid().amax(dim=-1).float().cpu().numpy()
    cx, cy, w, h = found.pred_boxes[0].float().cpu().numpy().T
    return scores, np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1)


def _is_here(name: str) -> bool:
    """Return whether the detector is taken from this machine alone: from a folder, or where the hub does not answer.

    Raises: WeightsError, there is no such folder, or it was never fetched and the hub does not answer.
    """
    if Path(name).expanduser().is_dir():
        return True
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise WeightsError(
            f"--text-model {name}: there is no such folder; give one, or a name on the hub as OWNER/NAME"
        )
    from huggingface_hub import constants, try_to_load_from_cache

    if not constants.HF_HUB_OFFLINE and _hub_answers():
        return False
    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        why = "it was not fetched before, and the hub does not answer"
        raise WeightsError(f"--text-model {name}: cannot be loaded ({why}); {_elsewhere(name)}")
    return True


def _elsewhere(name: str) -> str:
    return f"where there is no network, fetch it elsewhere (hf download {name} --local-dir DIR) and give DIR"


def _load(name: str, own: bool) -> tuple[Any, Any]:
    """Load the detector's processor and model, from a folder or by name on the hub; from this machine where `own`.

    Raises: WeightsError.
    """
    from transformers import AutoProcessor, GroundingDinoForObjectDetection

    folder = Path(name).expanduser()
    source = str(folder) if folder.is_dir() else name
    try:
        return (
            AutoProcessor.from_pretrained(source, local_files_only=own),
            GroundingDinoForObjectDetection.from_pretrained(source, local_files_only=own),
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        do = (
            "it must hold what save_pretrained writes of a Grounding DINO and its processor"
            if folder.is_dir()
            else _elsewhere(name)
        )
        raise WeightsError(f"--text-model {name}: cannot be loaded ({why}); {do}") from error


def _hub_answers() -> bool:
    """Return whether the hub, or the proxy that leads there, takes a connection within a second."""
    from huggingface_hub import constants

    hub = urlsplit(constants.ENDPOINT)
    proxies = {} if proxy_bypass(hub.hostname or "") else getproxies()
    way = urlsplit(proxies.get(hub.scheme) or proxies.get("all") or constants.ENDPOINT)
    port = way.port or (80 if way.scheme == "http" else 443)
    answers: list[bool] = []

    def connect() -> None:
        with suppress(OSError), socket.create_connection((way.hostname or "", port), timeout=_HUB_SECONDS):
            answers.append(True)

    asking = threading.Thread(target=connect, daemon=True)  # looking up a name has no time limit of its own
    asking.start()
    asking.join(_HUB_SECONDS)
    return bool(answers)
