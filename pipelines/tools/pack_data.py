"""Pack the training pictures and the rendered subjects into one file, for a machine without the folder or a network.

    pack_data.py OUT.zip [--data DIR] [--rendered DIR] [--limit MIB] [--side N] [--allow RE] [--deny RE]

Train from it with `mam-video train RECIPE --set data=OUT.zip`. The quality is the best that fits the limit. The licence
of each source is in the file's own manifest.csv: most sources do not allow to pass it on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2

from mam_video.core.errors import MamVideoError
from mam_video.training.data.packing import pack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    parser.add_argument("--rendered", type=Path, help="of render_subjects.py")
    parser.add_argument("--limit", type=float, default=50.0, metavar="MIB")
    parser.add_argument("--side", type=int, default=288, help="longest side of pictures")
    parser.add_argument("--cutout-side", type=int, default=400, help="longest side of cut-outs")
    parser.add_argument("--allow", default=".*", help="as in the recipes")
    parser.add_argument("--deny", default="", help="as in the recipes")
    o = parser.parse_args()
    cv2.setNumThreads(1)
    start = time.monotonic()
    try:
        packed = pack(o.data, o.out, rendered=o.rendered, limit=int(o.limit * 2**20), side=o.side,
                      cutout_side=o.cutout_side, allow=o.allow, deny=o.deny)  # fmt: skip
    except MamVideoError as error:
        print(f"pack_data: {error}", file=sys.stderr)
        return error.exit_code
    files = ", ".join(f"{n} {kind}" for kind, n in sorted(packed.counts.items()))
    print(
        f"{o.out}: {packed.size / 2**20:.1f} MiB, quality {packed.quality}, {time.monotonic() - start:.0f} s: {files}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
