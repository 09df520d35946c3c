"""`python -m mam_video` is `mam-video`."""

import sys

from mam_video.cli import main

if __name__ == "__main__":
    sys.exit(main())
