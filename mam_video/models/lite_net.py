"""The embedded small model's network: a backbone, a promptable segmenter and a matte head. Tensors in, tensors out.

Of a view of V = 2 S pixels, the segmenter sees S and the matte head all V.

    picture V --- 1/2 ---> S --> backbone: f2, f4, f8, f16, f32                    # fN at stride N of S
                                   |     |     |______|_______|
                                   |     |            |--> top-down: features, keys      # knows no prompt
                                   |     |                    |--> decoder + prompts, matches --> mask logits at S/2
    picture, mask logits, f2, f4, features --------> matte head --> alpha at V

As in SAM the prompt enters after the backbone. What ties a frame to the prompted one are two match maps: for each cell,
the highest cosine similarity of its key to any cell of the reference inside its mask, and outside; and a target map: a
ridge regression from a cell's look to inside or outside, solved anew for each frame over all references at once. The
first says what resembles the subject, the second what tells it from its surroundings there.

The backbone is an EfficientNet-Lite with TensorFlow's padding and its batch norms folded into the convolutions. Its
stem and first two stages stay as ImageNet made them. `LiteArchitecture` says how deep and how wide the network is.
Source: Tan and Le, EfficientNet, ICML 2019, in the Lite form (no squeeze-excite, ReLU6). The matte head sees the
segmenter's prompt-free features and does not train them: it is trained after the segmenter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam_video.models.lite_backbone import HEAD_CHANNELS, LITE0, Backbone, LiteArchitecture
from mam_video.models.lite_layers import Attention, Block, ConvNorm, Features, of_raised, up
from mam_video.models.lite_match import ReferenceCells, query_cells
from mam_video.models.lite_matte import MatteHead

SEGMENTER_SIZE = 256
"""S: the side of the square that the segmenter was trained at."""
KEY = 32  # channels of a key
LOOK = 64  # channels of a look


# box, is there one, place in it across and down, previous mask, is there one, points on the subject, on the background
PROMPT_MAPS = 8
MATCH_MAPS = 7  # inside, outside, is there one: of the prompted frame, then of the recent ones; target of all of them
_PARTS = 16  # of a reference's cells, summed up one by one; their number, (S/8)^2, is a multiple of it
RECENT_WEIGHT = 0.5  # of all recent frames together in the regression, beside 1 for the prompted one


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one reference frame says: sums over its cells, for the regression. All float32.

    gram  (B, LOOK + 1, LOOK + 1), moment (B, LOOK + 1, 1)
    """

    gram: Tensor
    moment: Tensor

    def times(self, weight: Tensor) -> Evidence:
        """Each of the batch weighted by `weight` (B,)."""
        w = weight.view(-1, 1, 1)
        return Evidence(self.gram * w, self.moment * w)

    def plus(self, other: Evidence) -> Evidence:
        return Evidence(self.gram + other.gram, self.moment + other.moment)


class Segmenter(nn.Module):
    """Mask logits at S/2 and a guess of their IoU, from features, prompt maps and match maps."""

    def __init__(self, architecture: LiteArchitecture = LITE0) -> None:
        super().__init__()
        wide, middle, narrow = architecture.wide, architecture.middle, architecture.narrow
        _, c4, c8, c16, c32 = architecture.channels
        self.lateral32 = ConvNorm(c32, wide, 1)
        self.lateral16 = ConvNorm(c16, wide, 1)
        self.lateral8 = ConvNorm(c8, middle, 1)
        self.lateral4 = ConvNorm(c4, narrow, 1)
        self.join16 = nn.Sequential(ConvNorm(2 * wide, wide, 1), Block(wide))
        self.down8 = ConvNorm(wide, middle, 1)
        self.key = nn.Conv2d(2 * middle, KEY + LOOK, 1)
        self.in16 = ConvNorm(wide + PROMPT_MAPS + MATCH_MAPS + 2, wide, 1)
        deep: list[nn.Module] = [Block(wide)]
        for _ in range(architecture.attentions):
            deep += [Attention(wide, wide // HEAD_CHANNELS), Block(wide)]
        self.body16 = nn.Sequential(*deep)
        self.in8 = ConvNorm(wide + middle + PROMPT_MAPS + MATCH_MAPS, middle, 1)
        self.body8 = nn.Sequential(Block(middle), Block(middle))
        self.in4 = ConvNorm(middle + narrow + PROMPT_MAPS, narrow, 1)
        self.body4 = nn.Sequential(Block(narrow), Block(narrow))
        self.out = nn.Conv2d(narrow, 4, 3, padding=1)
        self.score = nn.Sequential(nn.Linear(2 * wide + 1, 32), nn.ReLU6(), nn.Linear(32, 1))
        # How much the match of a cell counts when the reference's mask covers it in part.
        self.register_buffer("cover", torch.tensor(0.2))
        self.cover: Tensor
        self.log_ridge = nn.Parameter(torch.tensor(-5.0))  # of the regression; the weights of all cells sum to 1
        self.target_scale = nn.Parameter(torch.tensor(2.0))  # from the target map to logits, for its own loss

    def features(self, f4: Tensor, f8: Tensor, f16: Tensor, f32: Tensor) -> Features:
        l16 = self.lateral16(f16)
        top = self.join16(_joined(l16, up(self.lateral32(f32)), like=l16))
        l8 = self.lateral8(f8)
        key, look = self.key(_joined(l8, up(self.down8(top)), like=l8)).float().split([KEY, LOOK], 1)
        return Features(self.lateral4(f4), l8, top, F.normalize(key, dim=1), F.normalize(look, dim=1))

    def match(self, key: Tensor, reference: Tensor, inside: Tensor, valid: Tensor) -> Tensor:
        """(B, 2, h, w): the highest similarity of each cell to the reference's cells inside its mask, and outside.

        key, reference: (B, KEY, h, w); inside: the share of each reference cell that its mask covers, (B, 1, h, w);
        valid: 1 where the reference's cell is picture and not padding, likewise.
        """
        b, _, h, w = key.shape
        with torch.autocast(key.device.type, enabled=False):
            cells, others = key.flatten(2), reference.flatten(2).contiguous()
            penalties = self._penalties(inside, valid)
            if torch.is_grad_enabled():
                return torch.stack([_highest(cells, others, p) for p in penalties], 1).view(b, 2, h, w)
            if key.device.type == "cpu":
                split = zip(key, self.reference_cells(reference, inside, valid), strict=True)
                return torch.stack([matched(query_cells(some), kinds) for some, kinds in split]).view(b, 2, h, w)
            similarity = torch.bmm(cells.transpose(1, 2), others)
            return torch.stack([(similarity + p[:, None]).amax(2) for p in penalties], 1).view(b, 2, h, w)

    def _penalties(self, inside: Tensor, valid: Tensor) -> list[Tensor]:
        """(B, n) each: what is added to the similarity to a reference's cells, of the inside and of the outside."""
        shares = (inside * valid, (1 - inside) * valid)
        return [torch.log(share.flatten(1).clamp(1e-4, 1)) * self.cover for share in shares]

    def reference_cells(self, reference: Tensor, inside: Tensor, valid: Tensor) -> list[list[ReferenceCells]]:
        """Cells of references for `matched` on a CPU: of each, inside and outside. Arguments as in `match`."""
        cover, penalties = float(self.cover), self._penalties(inside, valid)
        cells = reference.flatten(2)
        return [[ReferenceCells.of(some, p[k], cover) for p in penalties] for k, some in enumerate(cells)]

    @staticmethod
    def evidence(look: Tensor, inside: Tensor, valid: Tensor) -> Evidence:
        """What a reference with this look says; inside and outside count the same. Arguments as in `match`."""
        x = torch.cat([look, torch.ones_like(look[:, :1])], 1).flatten(2)  # (B, LOOK + 1, n)
        subject, rest = (inside * valid).flatten(1), ((1 - inside) * valid).flatten(1)
        subject = 0.5 * subject / subject.sum(1, keepdim=True).clamp(min=1)
        rest = 0.5 * rest / rest.sum(1, keepdim=True).clamp(min=1)
        with torch.autocast(look.device.type, enabled=False):
            # Summed up part by part: the library sums up the whole in an order that depends on the number of threads.
            weights = torch.cat([x * (subject + rest)[:, None], (subject - rest)[:, None]], 1)
            left, right = (each.reshape(*each.shape[:2], _PARTS, -1).transpose(1, 2) for each in (x, weights))
            sums = torch.matmul(left, right.transpose(2, 3)).sum(1)  # (B, LOOK + 1, LOOK + 2)
            return Evidence(sums[:, :, :-1], sums[:, :, -1:])

    def target(self, look: Tensor, evidence: Evidence) -> Tensor:
        """(B, 1, h, w), about 1 on the subject and -1 elsewhere; 0 where there is no evidence.

        A differentiable ridge regression. Source: Bertinetto et al., Meta-learning with differentiable closed-form
        solvers, ICLR 2019; as a target model for tracking: Robinson et al., FRTM-VOS, CVPR 2020.
        """
        b, _, h, w = look.shape
        with torch.autocast(look.device.type, enabled=False):
            ridge = self.log_ridge.exp() * torch.eye(evidence.gram.shape[1], device=look.device)
            # Never singular: the ridge is above 0. `linalg.solve` would wait for the device to check that.
            weights = torch.linalg.solve_ex(evidence.gram + ridge, evidence.moment)[0]  # (B, LOOK + 1, 1)
            found = torch.bmm(weights[:, :-1].transpose(1, 2), look.flatten(2)) + weights[:, -1:]
        return found.view(b, 1, h, w).clamp(-2, 2)

    def decode(self, features: Features, prompts: Tensor, matches: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (B, 1, S/2, S/2) and the logit of their IoU (B,).

        prompts: (B, PROMPT_MAPS, S/2, S/2); matches: (B, MATCH_MAPS, S/8, S/8).
        """
        p4 = F.avg_pool2d(prompts, 2)
        p8 = F.avg_pool2d(p4, 2)
        p16 = F.avg_pool2d(p8, 2)
        place = _places(features.top)
        x = self.body16(self.in16(_joined(features.top, p16, F.avg_pool2d(matches, 2), place, like=features.top)))
        deep = x
        x = self.body8(of_raised(self.in8, x, features.l8, p8, matches))
        x = self.body4(of_raised(self.in4, x, features.l4, p4))
        logits = F.pixel_shuffle(self.out(x), 2).float()
        # The score looks at the whole and at what was taken for the subject; it must not steer the mask.
        weight = F.avg_pool2d(logits.detach().sigmoid(), 8)
        area = weight.mean((2, 3))
        taken = (deep * weight).mean((2, 3)) / (area + 1e-3)
        score = self.score(torch.cat([deep.mean((2, 3)), taken, area], 1).detach())
        return logits, score[:, 0].float()


def _highest(cells: Tensor, others: Tensor, penalty: Tensor) -> Tensor:
    """(B, n): the highest of each cell's similarity to the others (B, KEY, n), with their penalty (B, n) added.

    For training. Only the most similar cell gets a gradient, so that no gradient of all pairs is computed, and the
    penalty is one more channel of the product, so that it needs no pass over all pairs.
    """
    with torch.no_grad():
        ones = torch.ones_like(cells[:, :1])
        pairs = torch.bmm(torch.cat([cells, ones], 1).transpose(1, 2), torch.cat([others, penalty[:, None]], 1))
        best = pairs.argmax(2)
    chosen = others.gather(2, best[:, None].expand(-1, others.shape[1], -1))
    return (cells * chosen).sum(1) + penalty.gather(1, best)


def matched(cells: Tensor, kinds: Sequence[ReferenceCells]) -> Tensor:
    """(2, n): what `Segmenter.match` says of one frame's `query_cells`."""
    return torch.stack([kind.highest(cells) for kind in kinds])


def _joined(*maps: Tensor, like: Tensor) -> Tensor:
    """Join maps along channels in the precision of `like`, to which autocast would round the convolution's input."""
    return torch.cat([m.to(like.dtype) for m in maps], 1)


def _places(like: Tensor) -> Tensor:
    """(B, 2, h, w): where each cell lies across and down, -1..1; channels-last if `like` is."""
    b, _, h, w = like.shape
    y = torch.linspace(-1, 1, h, device=like.device).view(1, 1, h, 1).expand(b, 1, h, w)
    x = torch.linspace(-1, 1, w, device=like.device).view(1, 1, 1, w).expand(b, 1, h, w)
    last = like.is_contiguous(memory_format=torch.channels_last)
    return torch.cat([x, y], 1).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class LiteNet(nn.Module):
    """Backbone, segmenter and matte head of one architecture."""

    def __init__(self, architecture: LiteArchitecture = LITE0) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = Backbone(architecture)
        self.segmenter = Segmenter(architecture)
        self.matte = MatteHead(architecture)

    def features(self, x: Tensor) -> Features:
        """Of pictures (B, 3, S, S) in [-1, 1]."""
        _, f4 = self.backbone.low(x)
        return self.segmenter.features(f4, *self.backbone.deep(f4))
