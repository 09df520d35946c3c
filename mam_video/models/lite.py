"""The embedded small model: no download, fast on an ordinary CPU. What it is made of stands in `lite_net.py`.

It looks at views of 640 pixels: the segmenter at half of that, the matte head at all of it. Batch norms are folded into
their convolutions and the weights laid out channels-last when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as read_safetensors
from torch import Tensor, nn

from mam_video.core.errors import WeightsError
from mam_video.models import cpu_convolutions
from mam_video.models.base import Candidates, Embedding, Reference, ViewPrompt
from mam_video.models.batches import ComputeParts
from mam_video.models.cpu_convolutions import PackedConvolution, SplitConvolution
from mam_video.models.devices import resolve_device
from mam_video.models.lite_backbone import ARCHITECTURE_KEY, SameConv, architecture_of
from mam_video.models.lite_layers import ConvNorm, Features, halved
from mam_video.models.lite_match import ReferenceCells, query_cells
from mam_video.models.lite_net import MATCH_MAPS, RECENT_WEIGHT, Evidence, LiteNet, matched
from mam_video.models.lite_prompts import prompt_maps
from mam_video.models.lite_views import PartView, mean_logits, views_of
from mam_video.models.solid import solid
from mam_video.models.transfers import download, on_device, upload

WEIGHTS = Path(__file__).with_name("lite.safetensors")
SHA256 = "0a9bfe2740a71a9f2cfcb819cd639fd0d543de9a22e06a1ed1944fb9db75e88f"

_SIDE = 320  # of the square that the segmenter sees; trained at 256, and better at this (docs/measurements.md)

_UNDIVIDED = 31 * 1024  # values, whole vectors: of less than 32 * 1024 PyTorch's operators make one part

_LOOKS = 4  # at a view of a picture without a previous mask; each costs a decoder's time
_AFTER_MEAN = 2  # further looks at the picture itself, from the mean of its views


@dataclass(slots=True)
class _Batch:
    """pictures (B, 3, V, V) in [-1, 1]; f2, f4 of the backbone; what the segmenter needs, made on first use."""

    pictures: Tensor
    f2: Tensor
    f4: Tensor
    valid: Tensor  # (1, 1, S/8, S/8): the share of each cell that is picture
    features: Features | None = None
    known: dict[int, _Known] = field(default_factory=dict)  # of pictures that are references


@dataclass(slots=True)
class _Known:
    """What is asked of a reference in each frame, found once for its mask `logits`."""

    logits: np.ndarray
    inside: Tensor  # (1, 1, S/8, S/8): the share of each cell that the mask covers
    evidence: Evidence  # for the regression
    cells: list[ReferenceCells] | None  # on a CPU: of the inside and of the outside, for the matches


class LiteModel:
    """See `models/base.py` for what the three calls promise. Build one with `load`."""

    name = "lite"
    view_size = 2 * _SIDE
    mask_size = _SIDE // 2
    references = 3
    takes_tensors = True
    side_by_side = True

    def __init__(
        self, net: LiteNet, device: str | torch.device = "auto", *, weights: dict[str, str] | None = None
    ) -> None:
        """Takes over `net`. Raises DeviceError, the device is not here."""
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.weights = dict(weights or {})
        self._parts = ComputeParts(self.device)
        net = folded(net.eval()).requires_grad_(False)
        net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._empty: tuple[Tensor, Tensor] | None = None  # f2, f4 of a picture that is all padding
        self._net: LiteNet = packed(net) if self.device.type == "cpu" and cpu_convolutions.available() else net

    @classmethod
    def load(cls, path: Path | None = None, device: str | torch.device = "auto") -> Self:
        """From a safetensors file of the trainer's; by default the package's own, whose hash is pinned.

        The file tells the network's architecture; floats may be stored in 16 or 32 bits.

        Raises: WeightsError, the file is missing, damaged or of another network.
        """
        own = path is None
        path = path or WEIGHTS
        try:
            data = path.read_bytes()
            state = read_safetensors(data)
        except (OSError, SafetensorError) as e:
            raise WeightsError(
                f"{path}: cannot read the weights of the model lite ({e}); install the package again"
            ) from e
        digest = hashlib.sha256(data).hexdigest()
        if own and digest != SHA256:
            raise WeightsError(f"{path}: not the weights that came with the package; install the package again")
        try:
            net = LiteNet(architecture_of(state, _metadata(data).get(ARCHITECTURE_KEY)))
        except ValueError as e:
            raise WeightsError(f"{path}: these weights are not of the model lite ({e})") from e
        wanted = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
        if set(wanted) != set(state) or any(wanted[k].shape != state[k].shape for k in wanted):
            raise WeightsError(f"{path}: these weights are not of the model lite")
        net.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        return cls(net, device, weights={path.name: digest})

    # -------------------------------------------------------------------------------------------- the contract
    def embed(self, pictures: Sequence[np.ndarray | Tensor]) -> Embedding:
        h, w = pictures[0].shape[:2]
        size = self.view_size
        # Padding is the middle grey that the network was trained with: 0 once scaled.
        batch = torch.zeros(len(pictures), size, size, 3, device=self.device)
        batch[:, :h, :w] = on_device(pictures, self.device, "pictures")
        batch[:, :h, :w].div_(127.5).sub_(1)
        batch = batch.permute(0, 3, 1, 2)  # channels-last
        return self._embedding(batch, (h, w))

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        if prompt.logits is not None:
            return self._query(embedding, index, prompt)
        if not prompt.prompted:
            return self._looked(embedding, index, prompt)
        views = views_of(prompt, embedding.content, self.view_size, self.view_size // self.mask_size)
        found = [self._seen(embedding, index, view, prompt) for view in views]
        mean = mean_logits(views, [each.logits[0] for each in found])
        # A mean of masks is less sure than each of them. Looking again makes it as sure as other frames' masks.
        return self._again(embedding, index, prompt, mean, _AFTER_MEAN)

    def recognise(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        """See `models/base.Recogniser`. One look: further ones would compare the mask with itself."""
        return self._query(embedding, index, ViewPrompt(references=prompt.references))

    def matte(self, embedding: Embedding, logits: np.ndarray) -> Tensor:
        batch: _Batch = embedding.data
        masks = upload(logits.astype(np.float32), self.device, "masks")[:, None]
        features = self._features(embedding)

        def work(part: slice) -> Tensor:
            given = (batch.pictures[part], batch.f2[part], batch.f4[part], features.part(part), masks[part])
            return to_alpha(self._net.matte(*given, embedding.content)[0]).float()

        return solid(torch.cat(self._parts.run(work, embedding.count)), logits, embedding.content)

    @property
    def notes(self) -> list[str]:
        """What users should know of the device, a line each."""
        return self._parts.notes

    # -------------------------------------------------------------------------------------------- its own
    def _embedding(self, square: Tensor, content: tuple[int, int]) -> Embedding:
        """Of pictures (B, 3, V, V) in [-1, 1], 0 beyond `content`."""
        half, cells = halved(square), self.view_size // 16
        maps = self._parts.run(lambda part: self._low(half[part], content), len(half))
        f2, f4 = (each[0] if len(each) == 1 else torch.cat(each) for each in zip(*maps, strict=True))
        rows, columns = ((n / 16 - torch.arange(cells, device=self.device)).clamp(0, 1) for n in content)
        return Embedding(len(square), content, _Batch(square, f2, f4, (rows[:, None] * columns)[None, None]))

    def _low(self, half: Tensor, content: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """f2 and f4 of pictures (B, 3, S, S) whose `content` (h, w), in pixels of the view, is not padding."""
        backbone = self._net.backbone
        within = (-(-content[0] // 2), -(-content[1] // 2))
        if self.device.type != "cpu" or not backbone.worth_leaving_out(within, half.shape[-1]):
            return backbone.low(half)
        if self._empty is None:
            self._empty = backbone.low(torch.zeros_like(half[:1]))
        return backbone.low_within(half, within, self._empty)

    def _seen(self, embedding: Embedding, index: int, view: PartView, prompt: ViewPrompt) -> Candidates:
        """The mask of a view of a picture, over the view's own square."""
        batch: _Batch = embedding.data
        if view.is_whole(embedding.content):
            return self._looked(embedding, index, view.prompt(prompt))
        square = torch.zeros_like(batch.pictures[:1])
        square[..., : view.content[0], : view.content[1]] = view.picture(batch.pictures[index : index + 1])
        return self._looked(self._embedding(square, view.content), 0, view.prompt(prompt))

    def _looked(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        """The mask for a prompt after several looks."""
        found = self._query(embedding, index, prompt)
        return self._again(embedding, index, prompt, found.logits[0], _LOOKS - 1)

    def _again(
        self, embedding: Embedding, index: int, prompt: ViewPrompt, logits: np.ndarray, times: int
    ) -> Candidates:
        """Look again, `times` in a row: what is like the inside of the last mask (m, m), what is like its outside?"""
        assert times > 0
        for _ in range(times):
            itself = Reference(embedding, index, logits, prompted=True)
            again = replace(prompt, logits=logits, references=(*prompt.references, itself))
            found = self._query(embedding, index, again)
            logits = found.logits[0]
        return found

    def _query(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        features = self._features(embedding).pick(index)
        m, scale = self.mask_size, 1 / self.view_size
        # All of the prompt in one upload: the previous mask, whether there is one, the box, whether there is one.
        numbers = np.zeros(m * m + 6, np.float32)
        numbers[-6:-2] = prompt.box.xyxy if prompt.box else (0, 0, 1, 1)
        numbers[-2:] = prompt.box is not None, prompt.logits is not None
        if prompt.logits is not None:
            numbers[:-6] = prompt.logits.ravel()
        given = upload(numbers, self.device, "prompt")
        previous = given[:-6].view(1, 1, m, m).sigmoid() * given[-1]
        points, labels = (torch.zeros(1, 0, *more, device=self.device) for more in ((2,), ()))
        if len(prompt.points):
            points = upload(prompt.points.astype(np.float32)[None], self.device, "points") * scale
            labels = upload(prompt.labels[None], self.device, "points")
        maps = prompt_maps(m, given[None, -6:-2] * scale, given[-2:-1], previous, given[-1:], points, labels)
        maps = maps.contiguous(memory_format=torch.channels_last)  # as the features they are joined with
        logits, score = self._net.segmenter.decode(features, maps, self._matches(features, prompt.references))
        # What lies in the padding is nobody's subject.
        cell = self.view_size / m
        rows, columns = (int(np.ceil(n / cell)) for n in embedding.content)
        out = logits[0, 0]
        out[rows:] = -20.0
        out[:, columns:] = -20.0
        read = download(torch.cat([out.float().flatten(), score.sigmoid().float()]), "candidates")  # at once
        return Candidates(read[:-1].reshape(1, m, m), read[-1:])

    def _features(self, embedding: Embedding) -> Features:
        batch: _Batch = embedding.data
        if batch.features is None:
            net, f4 = self._net, batch.f4
            batch.features = Features.joined(
                self._parts.run(lambda part: net.segmenter.features(f4[part], *net.backbone.deep(f4[part])), len(f4))
            )
        return batch.features

    def _matches(self, now: Features, references: Sequence[Reference]) -> Tensor:
        """(1, MATCH_MAPS, S/8, S/8): the best of the prompted frames, the best of the recent ones, the target map."""
        h, w = now.key.shape[2:]
        maps = torch.zeros(1, MATCH_MAPS, h, w, device=self.device).to(memory_format=torch.channels_last)
        cells = query_cells(now.key[0]) if self.device.type == "cpu" else None
        for place, kind in ((0, True), (3, False)):
            found = [self._match(now, cells, r) for r in references if r.prompted == kind]
            if found:
                maps[:, place : place + 2] = torch.stack(found).amax(0)
                maps[:, place + 2] = 1
        recent = sum(not r.prompted for r in references)
        said = None
        for r in references:
            weight = 1.0 if r.prompted else RECENT_WEIGHT / recent
            evidence = self._known(r).evidence.times(torch.full((1,), weight, device=self.device))
            said = evidence if said is None else said.plus(evidence)
        if said is not None:
            maps[:, -1:] = self._net.segmenter.target(now.look, said)
        return maps

    def _match(self, now: Features, cells: Tensor | None, reference: Reference) -> Tensor:
        """(1, 2, S/8, S/8): see `Segmenter.match`. `cells`: of `now`, for a CPU."""
        then, known = reference.embedding.data, self._known(reference)
        if cells is not None and known.cells is not None:
            return matched(cells, known.cells).view(1, 2, *now.key.shape[2:])
        key = self._features(reference.embedding).pick(reference.index).key
        return self._net.segmenter.match(now.key, key, known.inside, then.valid)

    def _known(self, reference: Reference) -> _Known:
        """What is asked of a reference in each frame; found once."""
        then: _Batch = reference.embedding.data
        known = then.known.get(reference.index)
        if known is None or known.logits is not reference.logits:
            segmenter, features = self._net.segmenter, self._features(reference.embedding).pick(reference.index)
            mask = upload(reference.logits.astype(np.float32), self.device, "references")[None, None].sigmoid()
            inside = F.avg_pool2d(mask, 4)
            evidence = segmenter.evidence(features.look, inside, then.valid)
            on_cpu = self.device.type == "cpu"
            cells = segmenter.reference_cells(features.key, inside, then.valid)[0] if on_cpu else None
            known = then.known[reference.index] = _Known(reference.logits, inside, evidence, cells)
        return known


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of a whole safetensors file: after 8 bytes of length stands a JSON header."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def to_alpha(logits: Tensor) -> Tensor:
    """Alpha in [0, 1] of the matte head's logits; 0 and 1 themselves are reached at about -4.6 and 4.6."""
    if logits.device.type != "cpu":
        alpha = logits.sigmoid()
    else:  # in one thread: where several divide the map, the last few values of each part are rounded otherwise
        given = logits.contiguous()
        alpha = torch.empty_like(given)
        for start in range(0, given.numel(), _UNDIVIDED):
            part = slice(start, start + _UNDIVIDED)
            torch.sigmoid(given.view(-1)[part], out=alpha.view(-1)[part])
    return alpha.mul_(1.02).sub_(0.01).clamp_(0, 1)


def packed(net: LiteNet) -> LiteNet:
    """The same folded network, its convolutions made ready for a CPU."""
    architecture = net.architecture
    split: list[tuple[nn.Module, str, int]] = [
        (net.segmenter, "in8", architecture.wide),
        (net.segmenter, "in4", architecture.middle),
        (net.matte, "in2", net.matte.coarse.in_channels),
    ]
    for half, name, channels in split:
        setattr(half, name, SplitConvolution(getattr(half, name)[0], channels))
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConvNorm):
                conv = child[0]
                assert isinstance(conv, nn.Conv2d)
                setattr(parent, name, PackedConvolution(conv, act=len(child) > 2))
            elif isinstance(child, SameConv):
                setattr(parent, name, PackedConvolution(child, act=child.act, same=child.same))
            elif isinstance(child, nn.Conv2d):
                setattr(parent, name, PackedConvolution(child, act=False))
    return net


@torch.no_grad()
def folded(net: LiteNet) -> LiteNet:
    """The same network in evaluation, each batch norm taken into the convolution before it."""
    for module in net.modules():
        if isinstance(module, ConvNorm) and isinstance(module[1], nn.BatchNorm2d):
            conv = module[0]
            assert isinstance(conv, nn.Conv2d)
            module[0] = torch.nn.utils.fuse_conv_bn_eval(conv, module[1])
            module[1] = nn.Identity()
    return net
