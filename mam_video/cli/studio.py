"""`mam-video studio`: the page where an artist points, looks, corrects and runs."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable
from pathlib import Path

from mam_video.cli.options import add_debug
from mam_video.cli.say import say
from mam_video.core.errors import UsageError

_DESCRIPTION = """\
Open a page in the browser to matte a clip: draw a box, look at the matte, correct it, run. Everything is saved in a
folder beside the clip, CLIP.studio, and the page shows the command line that does the same.

examples:
  mam-video studio plate.mov
  mam-video studio shots/
  mam-video studio plate.mov --port 8080 --no-browser
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video studio`."""
    parser.description = _DESCRIPTION
    parser.set_defaults(run=run)
    parser.add_argument("input", metavar="INPUT", help="a clip, as for `matte`; or a folder of clips")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="the port of the page (default: one that is free)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address of the page")
    parser.add_argument(
        "--output-folder", action="append", metavar="FOLDER", help="another folder that outputs may be written to; may "
        "be repeated (default: the clip's folder and its project's)",
    )  # fmt: skip
    parser.add_argument(
        "--background", action="append", metavar="FILE", help="a picture or a clip that the page can show the subject "
        "over, and that previews can be written over; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="serve others too, at this address of the machine; "
        "needs --i-know",
    )  # fmt: skip
    parser.add_argument(
        "--i-know", action="store_true", help="with --host: whoever is on the network can read the traffic, the plates "
        "and the token in it, since it is not encrypted",
    )  # fmt: skip
    add_debug(parser)


def run(options: argparse.Namespace) -> int:
    _check_host(options.host, known=options.i_know)
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port must be between 0 and 65535, is {options.port}")
    places = [Path(name).absolute() for name in options.output_folder or ()]
    for place in places:
        if not place.is_dir():
            raise UsageError(f"--output-folder {place}: there is no such folder")
    try:
        from mam_video.studio.serve import serve
    except ImportError as error:
        raise UsageError(f"the studio needs {error.name}; install it: pip install 'mam-video[studio]'") from None
    serve(
        options.input, host=options.host, port=options.port, places=places, backgrounds=options.background or (),
        said=_say, opens=_opener(options),
    )  # fmt: skip
    return 0


def _check_host(host: str, *, known: bool) -> None:
    """Raises: UsageError, the address is none, or others could reach it and the user has not said to know."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(f"--host must be an address such as 192.168.0.5, is '{host}'") from None
    if address.is_unspecified:
        raise UsageError(f"--host {host} is every address at once; give the one that others will type")
    if not address.is_loopback and not known:
        raise UsageError(
            f"--host {host}: others on the network could read the plates and take over the page, since nothing is "
            "encrypted; add --i-know if you know that, or reach the page through an SSH tunnel"
        )


def _say(line: str) -> None:
    say(line, flush=True)


def _opener(options: argparse.Namespace) -> Callable[[str], object]:
    if options.no_browser:
        return lambda address: None
    import webbrowser

    return webbrowser.open
