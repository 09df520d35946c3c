"""Join a trained segmenter and a trained matte head into the package's own weights, and say their hash.

    ship_lite.py SEGMENTER.safetensors MATTE.safetensors [--out mam_video/models/lite.safetensors]

Takes the backbone and the segmenter of the first and the matte head of the second, stores them in 16 bits, and prints
the SHA-256 to pin in mam_video/models/lite.py. The matte head uses the backbone's first two stages alone, which
training leaves as they are: that the two files agree on them is checked.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch

from mam_video.errors import MamVideoError
from mam_video.models.lite_net import LiteNet
from mam_video.training.common import load_weights, save_weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("matte", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mam_video/models/lite.safetensors"))
    args = parser.parse_args()
    try:
        net, other = LiteNet(), LiteNet()
        load_weights(net, args.segmenter)
        load_weights(other, args.matte)
        if not all(torch.equal(a, b) for a, b in zip(net.backbone.frozen(), other.backbone.frozen(), strict=True)):
            raise MamVideoError(
                f"{args.matte}: this matte head was trained on another backbone than {args.segmenter}'s"
            )
        net.matte.load_state_dict(other.matte.state_dict())
        save_weights(net.state_dict(), args.out, half=True)
    except MamVideoError as e:
        print(f"ship_lite: {e}", file=sys.stderr)
        return 1
    data = args.out.read_bytes()
    print(f"{args.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
