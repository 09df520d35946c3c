"""`mam-video config`: print the settings that hold and where each comes from; list the presets."""

from __future__ import annotations

import argparse

from mam_video.cli.options import Groups, add_config, add_debug, add_edges, add_knobs, layers_from
from mam_video.cli.say import say
from mam_video.cli.settings_text import shown_settings
from mam_video.core.settings import Layer, Settings, configs_folder, presets

_DESCRIPTION = """\
Print the settings that hold and where each comes from, or list the presets.

examples:
  mam-video config show
  mam-video config show --config fast --set smooth.radius=2 --choke 1
  mam-video config list
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `mam-video config`."""
    parser.description = _DESCRIPTION
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    showing = actions.add_parser(
        "show",
        usage="mam-video config show [options]",
        help="print every setting with its value and where it comes from",
        description="Print every setting as TOML, with its source as a comment; takes the options of `matte` that are "
        "settings.\n\nexample:\n  mam-video config show --config fast --set smooth.radius=2\n",
    )
    showing.set_defaults(run=_show)
    groups = Groups(showing)
    add_config(showing)
    add_knobs(groups)
    add_edges(groups["matte"])
    shown = "List the presets.\n\nexample:\n  mam-video config list\n"
    listing = actions.add_parser("list", help="list the presets", description=shown)
    listing.set_defaults(run=_list)
    for action in (showing, listing):
        add_debug(action)


def sources_of(layers: list[Layer]) -> dict[str, str]:
    """The option or source that each key got its value from, the last one; keys that none names are left out."""
    sources: dict[str, str] = {}
    for layer in layers:
        for section, values in layer.values.items():
            keys = (
                [f"edges.{subject}.{key}" for subject, each in values.items() for key in each]
                if section in ("edges", "looks")
                else [f"{section}.{key}" for key in values]
            )
            sources.update({key: layer.flags.get(key, layer.source) for key in keys})
    return sources


def _show(options: argparse.Namespace) -> int:
    layers = layers_from(options)
    settings = Settings()
    for layer in layers:
        settings = settings.with_layer(layer)
    for line in shown_settings(settings, sources_of(layers)).splitlines():
        say(line)
    return 0


def _list(options: argparse.Namespace) -> int:
    names = presets()
    width = max(map(len, names))
    for name in names:
        text = (configs_folder() / f"{name}.toml").read_text(encoding="utf-8")
        first = text.partition("\n")[0].removeprefix("#").strip()
        say(f"{name:{width}}  {first}")
    return 0
