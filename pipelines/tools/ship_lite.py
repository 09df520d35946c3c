"""Make the trained weights the package's own, and say their hash.

    ship_lite.py WEIGHTS.safetensors [--out mam_video/models/lite.safetensors]

WEIGHTS is what `mam-video train lite-matte` leaves: all weights of the model, the segmenter's too. They are stored in
16 bits; the SHA-256 that is printed is to be pinned in mam_video/models/lite.py.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from mam_video.core.errors import MamVideoError
from mam_video.models.lite_net import LiteNet
from mam_video.training.checkpoints import architecture_in, load_weights, save_weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mam_video/models/lite.safetensors"))
    args = parser.parse_args()
    try:
        net = LiteNet(architecture_in(args.weights))
        load_weights(net, args.weights)
        save_weights(net.state_dict(), args.out, half=True, architecture=net.architecture.to_text())
    except MamVideoError as e:
        print(f"ship_lite: {e}", file=sys.stderr)
        return 1
    data = args.out.read_bytes()
    print(f"{args.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
