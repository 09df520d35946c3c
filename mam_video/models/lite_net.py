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

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam_video.models.lite_backbone import HEAD_CHANNELS, LITE0, Backbone, LiteArchitecture

SEGMENTER_SIZE = 256
"""S: the side of the square that the segmenter was trained at."""
_FEATURE_SCALE = 0.1  # f2 and f4 have a deviation of about 10: brought to that of pictures and masks
KEY = 32  # channels of a key
LOOK = 64  # channels of a look


# box, is there one, place in it across and down, previous mask, is there one, points on the subject, on the background
PROMPT_MAPS = 8
MATCH_MAPS = 7  # inside, outside, is there one: of the prompted frame, then of the recent ones; target of all of them
RECENT_WEIGHT = 0.5  # of all recent frames together in the regression, beside 1 for the prompted one


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless `act` says no, ReLU6."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, act: bool = True):
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(c_out)]
        super().__init__(*layers, *([nn.ReLU6(inplace=True)] if act else []))


class Block(nn.Module):
    """5x5 depthwise, then 1x1, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels, channels, 5, groups=channels)
        self.mix = ConvNorm(channels, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + self.mix(self.depthwise(x)))


def up(x: Tensor, factor: int = 2) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class Attention(nn.Module):
    """Each cell looks at all others, then thinks by itself; both are added to the input. (B, C, h, w) -> the same."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(tokens)).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.proj(seen.transpose(1, 2).reshape(b, h * w, c))
        tokens = tokens + self.mlp(self.norm2(tokens))
        out = tokens.transpose(1, 2).reshape(b, c, h, w)
        # The layers that follow compute in the layout of what they get: it stays that of the input.
        last = x.is_contiguous(memory_format=torch.channels_last)
        return out.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@dataclass(frozen=True, slots=True)
class Features:
    """The prompt-free half of the segmenter, for a batch."""

    l4: Tensor
    l8: Tensor
    top: Tensor  # stride 16
    key: Tensor  # (B, KEY, S/8, S/8), of length 1
    look: Tensor  # (B, LOOK, S/8, S/8), of length 1

    def pick(self, index: int) -> Features:
        one = slice(index, index + 1)
        return Features(*(getattr(self, k)[one] for k in FEATURES))


FEATURES = ("l4", "l8", "top", "key", "look")


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
            cells, others = key.flatten(2), reference.flatten(2)
            shares = (inside * valid, (1 - inside) * valid)
            penalties = [torch.log(share.flatten(1).clamp(1e-4, 1)) * self.cover for share in shares]
            if torch.is_grad_enabled():
                return torch.stack([_highest(cells, others, p) for p in penalties], 1).view(b, 2, h, w)
            similarity = torch.bmm(cells.transpose(1, 2), others)
            maps = [(similarity + p[:, None]).amax(2) for p in penalties]
        return torch.stack(maps, 1).view(b, 2, h, w)

    @staticmethod
    def evidence(look: Tensor, inside: Tensor, valid: Tensor) -> Evidence:
        """What a reference with this look says; inside and outside count the same. Arguments as in `match`."""
        x = torch.cat([look, torch.ones_like(look[:, :1])], 1).flatten(2)  # (B, LOOK + 1, n)
        subject, rest = (inside * valid).flatten(1), ((1 - inside) * valid).flatten(1)
        subject = 0.5 * subject / subject.sum(1, keepdim=True).clamp(min=1)
        rest = 0.5 * rest / rest.sum(1, keepdim=True).clamp(min=1)
        with torch.autocast(look.device.type, enabled=False):
            gram = torch.bmm(x * (subject + rest)[:, None], x.transpose(1, 2))
            return Evidence(gram, torch.bmm(x, (subject - rest)[:, :, None]))

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
        x = self.body8(self.in8(_joined(up(x), features.l8, p8, matches, like=features.l8)))
        x = self.body4(self.in4(_joined(up(x), features.l4, p4, like=features.l4)))
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


def _joined(*maps: Tensor, like: Tensor) -> Tensor:
    """Join maps along channels in the precision of `like`, to which autocast would round the convolution's input."""
    return torch.cat([m.to(like.dtype) for m in maps], 1)


def _places(like: Tensor) -> Tensor:
    """(B, 2, h, w): where each cell lies across and down, -1..1."""
    b, _, h, w = like.shape
    y = torch.linspace(-1, 1, h, device=like.device).view(1, 1, h, 1).expand(b, 1, h, w)
    x = torch.linspace(-1, 1, w, device=like.device).view(1, 1, 1, w).expand(b, 1, h, w)
    return torch.cat([x, y], 1)


def local_colours(picture: Tensor, mask: Tensor, levels: int = 6, patience: float = 0.1) -> tuple[Tensor, Tensor]:
    """What the subject and the background look like around each place: F and B (B, 3, h, w) like `picture`.

    Means of what the mask (B, 1, h, w) in [0, 1] is sure about, from the finest of some levels that has enough of it,
    by pulling up and pushing down a pyramid (Gortler et al., The Lumigraph, 1996). `patience` is how much sure area,
    in cells, counts as much as the next coarser level. h and w must divide by 2 to the levels - 1.
    """
    found = []
    for sure in ((3 * mask - 2).clamp(0, 1), (1 - 3 * mask).clamp(0, 1)):
        pulled = [(picture * sure, sure)]
        for _ in range(levels - 1):
            light, much = pulled[-1]
            pulled.append((F.avg_pool2d(light, 2), F.avg_pool2d(much, 2)))
        light, much = (v.mean((2, 3), keepdim=True) for v in pulled[-1])
        # Grey, and nothing to tell by, where there is no such thing at all.
        colour = (light / (much + 1e-3)).expand_as(pulled[-1][0])
        for light, much in reversed(pulled):
            if colour.shape[-1] != light.shape[-1]:
                colour = up(colour)
            colour = (light + patience * colour) / (much + patience)
        found.append(colour)
    return found[0], found[1]


def between(colour: Tensor, subject: Tensor, background: Tensor) -> Tensor:
    """How far `colour` lies on the way from background to subject, (B, 1, h, w): about alpha where both are right."""
    way = subject - background
    along = ((colour - background) * way).sum(1, keepdim=True)
    return (along / ((way * way).sum(1, keepdim=True) + 0.01)).clamp(-0.5, 1.5)


class MatteHead(nn.Module):
    """Alpha at V from the picture at V, the mask's logits at S/2, the backbone's first features and the segmenter's.

    In the manner of M2M: each stage takes the picture and the mask again. What no small network learns well it is told:
    the colours that the mask is sure of around each place, and how far the pixel lies from one to the other, as
    sampling-based matting does. The full resolution is reached by shuffling pixels of each 2x2 into channels and back,
    so that no layer runs at V.
    """

    def __init__(
        self, architecture: LiteArchitecture = LITE0, c8: int = 48, c16: int = 64, c4: int = 32, c2: int = 24
    ) -> None:
        super().__init__()
        wide, middle = architecture.wide, architecture.middle
        low2, low4, *_ = architecture.channels
        self.in8 = ConvNorm(low4 + 4 + 2, c8)
        self.down = nn.Sequential(ConvNorm(c8, c16, 3, stride=2), Block(c16), Block(c16), Block(c16))
        self.meaning = ConvNorm(middle, c16, 1, act=False)
        self.meaning_top = ConvNorm(wide, c16, 1, act=False)
        self.context = Attention(c16)
        self.deep = nn.Sequential(Block(c16), Block(c16))
        self.across = ConvNorm(c8 + c16, c8, 1)
        self.body8 = nn.Sequential(Block(c8), Block(c8), Block(c8))
        self.in4 = ConvNorm(c8 + low2 + 4 + 8, c4)
        self.body4 = nn.Sequential(Block(c4), Block(c4), Block(c4))
        self.coarse = nn.Conv2d(c4, 1, 3, padding=1)
        self.in2 = ConvNorm(c4 + 12 + 1 + 5, c2)
        self.body2, self.more2 = Block(c2), Block(c2)
        self.fine = nn.Conv2d(c2, 4, 3, padding=1)
        # What is added starts as nothing. Source: Goyal et al., arXiv 1706.02677, section 5.1.
        blocks = (*self.deep, self.body8[2], self.body4[2], self.more2)
        norms = (self.meaning[1], self.meaning_top[1], *(b.mix[1] for b in blocks if isinstance(b, Block)))
        for added in (*norms, self.context.proj, self.context.mlp[2]):
            assert isinstance(added, nn.BatchNorm2d | nn.Linear)
            nn.init.zeros_(added.weight)
            nn.init.zeros_(added.bias)

    def forward(self, picture: Tensor, f2: Tensor, f4: Tensor, features: Features, logits: Tensor) -> tuple[
        Tensor, Tensor
    ]:  # fmt: skip
        """Alpha logits (B, 1, V, V), and the coarse ones (B, 1, V/4, V/4), which training looks at too.

        picture: (B, 3, V, V) RGB in [-1, 1]; logits: (B, 1, S/2, S/2).
        """
        sure = logits.sigmoid()
        mask = 2 * sure - 1
        quarter = F.avg_pool2d(picture, 4)
        subject, background = local_colours(quarter, sure)
        apart = (subject - background).pow(2).sum(1, keepdim=True).sqrt()
        share = between(quarter, subject, background)
        told = torch.cat([share, apart, subject, background], 1)
        f2, f4 = f2 * _FEATURE_SCALE, f4 * _FEATURE_SCALE
        eighth = (f4, F.avg_pool2d(quarter, 2), F.avg_pool2d(mask, 2), F.avg_pool2d(told[:, :2], 2))
        x = self.in8(torch.cat(eighth, 1))
        deep = self.down(x)
        deep = F.relu6(deep + self.meaning(features.l8) + up(self.meaning_top(features.top)))
        seen = F.avg_pool2d(deep, 2)
        deep = self.deep(F.relu6(deep + up(self.context(seen) - seen)))
        x = self.body8(self.across(torch.cat([x, up(deep)], 1)))
        x = self.body4(self.in4(torch.cat([up(x), f2, quarter, mask, told], 1)))
        coarse = self.coarse(x)
        start = up(coarse)
        pixels = F.pixel_unshuffle(picture, 2)
        # Channels of `pixels` go colour by colour, the four places of each together.
        subject, background, apart = (up(v) for v in (subject, background, apart))
        shares = [between(pixels[:, i::4], subject, background) for i in range(4)]
        x = self.more2(self.body2(self.in2(torch.cat([up(x), pixels, start, *shares, apart], 1))))
        return up(start) + F.pixel_shuffle(self.fine(x), 2), coarse


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


def prompt_maps(
    size: int,
    boxes: Tensor,
    has_box: Tensor,
    previous: Tensor,
    has_previous: Tensor,
    points: Tensor,
    labels: Tensor,
) -> Tensor:
    """(B, PROMPT_MAPS, size, size): the prompts as pictures over the square.

    boxes         (B, 4) x0 y0 x1 y1 in shares of the square's side
    has_box       (B,) 0 or 1
    previous      (B, 1, size, size) the previous mask, 0..1
    has_previous  (B,) 0 or 1
    points        (B, N, 2) x y in shares of the side; N may be 0
    labels        (B, N) 1 subject, 0 background, below 0 no point
    """
    axis = _cells(size, boxes.device)
    soft = size / 2  # the edge of a box is two cells wide

    def inside(low: Tensor, high: Tensor) -> Tensor:
        a = ((axis - low[:, None]) * soft + 0.5).clamp(0, 1)
        b = ((high[:, None] - axis) * soft + 0.5).clamp(0, 1)
        return a * b

    box = inside(boxes[:, 1], boxes[:, 3])[:, :, None] * inside(boxes[:, 0], boxes[:, 2])[:, None]
    flag_box = has_box.view(-1, 1, 1).expand_as(box)

    def across(low: Tensor, high: Tensor) -> Tensor:
        """-1 at one side of the box, 1 at the other, no more than 2 beyond."""
        return ((2 * axis - (low + high)[:, None]) / (high - low).clamp(min=1e-3)[:, None]).clamp(-2, 2)

    u = across(boxes[:, 0], boxes[:, 2])[:, None].expand_as(box) * flag_box
    v = across(boxes[:, 1], boxes[:, 3])[:, :, None].expand_as(box) * flag_box
    flag_previous = has_previous.view(-1, 1, 1).expand_as(box)
    mask = previous[:, 0] * flag_previous
    return torch.stack([box * flag_box, flag_box, u, v, mask, flag_previous, *click_maps(size, points, labels)], 1)


def _cells(size: int, device: torch.device) -> Tensor:
    """The middles of `size` cells in shares of the side, (size,)."""
    return (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size


def click_maps(size: int, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, size, size) each: spots at the points on the subject, and at those on the background.

    Arguments as in `prompt_maps`. Where spots of one kind overlap, the highest counts.
    """
    if not points.shape[1]:
        nothing = torch.zeros(len(points), size, size, device=points.device)
        return nothing, nothing
    axis = _cells(size, points.device)
    across, down = ((axis - points[:, :, i : i + 1]) ** 2 for i in (0, 1))
    spots = torch.exp(-(down[:, :, :, None] + across[:, :, None]) * (size / 5) ** 2 / 2)  # (B, N, size, size)
    on_subject, on_background = ((spots * kind[:, :, None, None]).amax(1) for kind in (labels > 0, labels == 0))
    return on_subject, on_background
