"""How the site is built: ``python -m sphinx -W --keep-going docs site``.

Nothing comes from outside: no fonts, no scripts of other hosts; equations are MathML.
"""

from __future__ import annotations

from typing import Any

from docutils.utils.math import latex2mathml

import onnx_geed

project = "onnx-geed"
author = "the authors of onnx-geed"
copyright = ""
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_click"]
exclude_patterns = ["_static"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

add_module_names = False
autodoc_member_order = "bysource"
# Signatures as they are written; numpydoc tells the types.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = "onnx-geed"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
html_math_renderer = "mathml"
pygments_style = "default"
pygments_dark_style = "monokai"


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(latex2mathml.tex2mathml(node.astext()))
    raise_skip()


def _block(translator: Any, node: Any) -> None:
    label = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    maths = latex2mathml.tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math"{label}>{maths}</div>\n')
    raise_skip()


def raise_skip() -> None:
    from docutils.nodes import SkipNode

    raise SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Equations as MathML, which browsers draw without a script."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    names = {name for listed in onnx_geed._HOMES.values() for name in listed}
    assert names == set(onnx_geed.__all__)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
