"""Check a built site: every link inside it leads somewhere, and no page loads anything from elsewhere.

python docs/check_site.py out/docs
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("video", "src"), ("link", "href")}
_STYLE_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class _Page(HTMLParser):
    """The links, loaded files and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.anchors.add(value)
            if (tag, name) in _LOADS:
                self.loads.append(value)
            elif tag == "a" and name == "href":
                self.links.append(value)
            elif name == "style":
                self.loads += _urls(value)


def faults(site: Path) -> list[str]:
    """One line for each link that leads nowhere and each file that a page would fetch from another host."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: holds no page"]
    for path, page in pages.items():
        where = path.relative_to(site)
        for url in page.loads:
            found += _load_faults(url, path, str(where))
        for url in page.links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue  # an address elsewhere: a reader may follow it, the page does not fetch it
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{where}: link to {url}: there is no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where}: link to {url}: the page has no such anchor")
    for sheet in sorted(site.rglob("*.css")):
        for url in _urls(sheet.read_text(encoding="utf-8")):
            found += _load_faults(url, sheet, str(sheet.relative_to(site)))
    return found


def _load_faults(url: str, path: Path, where: str) -> list[str]:
    parts = urlsplit(url)
    if parts.scheme == "data" or not (parts.scheme or parts.netloc or parts.path):
        return []
    if parts.scheme or parts.netloc:
        return [f"{where}: fetches {url} from elsewhere"]
    return [] if (path.parent / unquote(parts.path)).exists() else [f"{where}: loads {url}, which is not there"]


def _urls(style: str) -> list[str]:
    return [a or b for a, b in _STYLE_URL.findall(style)]


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "every link leads somewhere, and no page fetches anything from elsewhere")
    sys.exit(bool(wrong))
