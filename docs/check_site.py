"""Check a built site: every link leads somewhere, and nothing is fetched from elsewhere.

python docs/check_site.py site
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Anchors of a page, its links, and what a browser fetches for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Called by the parser for every opening tag."""
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("index", "search", "next", "prev"):
            self.fetched.append(values.get("href", ""))
        self.fetched += [values[name] for name in ("src", "data", "poster") if name in values]


def wrong(folder: Path) -> list[str]:
    """Return the faults of a site, a line each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    faults = [] if pages else [f"{folder}: no pages; build the site first"]
    for path, page in pages.items():
        where = path.relative_to(folder)
        for link in (*page.links, *page.fetched):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.fetched and parts.scheme != "data":
                    faults.append(f"{where}: fetches {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                faults.append(f"{where}: there is no {link}")
            elif target in pages and parts.fragment:
                fragment = unquote(parts.fragment)
                if fragment not in pages[target].anchors:
                    faults.append(f"{where}: nothing in {target.name} is called {link}")
    for path in folder.rglob("*.css"):
        for link in re.findall(r"""(?:url\(|@import)\s*['"]?([^'")\s]+)""", path.read_text()):
            if re.match(r"(https?:)?//", link):
                faults.append(f"{path.relative_to(folder)}: fetches {link}")
    return sorted(set(faults))


if __name__ == "__main__":
    faults = wrong(Path(sys.argv[1]).resolve())
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    sys.exit(bool(faults))
