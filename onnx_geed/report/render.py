"""A template, its script and what it shows → one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_geed.safe_names import html_text

__all__ = ["json_in_page", "render"]

# What is passed by, and then a share in a text: no line ends between its number and its sign. And
# words that are written from right to left: they are a part of their sentence, which goes on.
_LEFTWARDS = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_PIECES = re.compile(
    r"<(script|style|svg|title)\b.*?</\1>|<[^>]*>|(?P<share>\d[\d.]* %)"
    rf"|(?P<leftwards>[{_LEFTWARDS}](?:[{_LEFTWARDS}\s\d.,…]*[{_LEFTWARDS}])?)",
    re.DOTALL,
)


def render(name: str, content: Mapping[str, Any]) -> str:
    """Return a page with its style and script inside.

    Parameters
    ----------
    name : str
        Of the template and of its script, without their endings.
    content : mapping of str to object
        The template's variables.

    Returns
    -------
    str
        HTML. What is not marked as markup is escaped.
    """
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onnx_geed.report"),
        autoescape=True,
        finalize=html_text,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    script = (Path(__file__).parent / "templates" / f"{name}.js").read_text(encoding="utf-8")
    # A browser runs the page's own script, which it knows by its digest, and no other.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"script": markupsafe.Markup(script), "script_digest": digest}
    page = environment.get_template(f"{name}.html.j2").render({**content, **own})
    # A no-break space would change names that hold a share, and what is copied from the page.
    return _PIECES.sub(_set_apart, page)


def _set_apart(piece: re.Match[str]) -> str:
    if piece["share"]:
        return f'<span class="nb">{piece[0]}</span>'
    return f"<bdi>{piece[0]}</bdi>" if piece["leftwards"] else piece[0]


def json_in_page(content: Any) -> str:
    """Return JSON as markup: nothing in it ends the element that holds it, or begins a comment."""
    import markupsafe

    text = json.dumps(content, separators=(",", ":"))
    return markupsafe.Markup(text.replace("<", "\\u003c"))
