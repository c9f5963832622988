"""How the site is built: ``python -m sphinx -W --keep-going docs site``.

Nothing comes from outside: no fonts, no scripts of other hosts; equations are MathML.
"""

from __future__ import annotations

from typing import Any

import click
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.docutils import SphinxDirective

from onnx_geed.cli import cli

project = "onnx-geed"
author = "the authors of onnx-geed"
copyright = ""
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_copybutton"]
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
# Of a session in a terminal, what is typed; no button on what a program prints.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_selector = "div.highlight:not(div.highlight-text div) pre"
pygments_style = "default"
pygments_dark_style = "monokai"


class Help(SphinxDirective):
    """``help`` with the name of a command: what the command's ``--help`` prints."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask click, which runs nothing."""
        (name,) = self.arguments
        command = cli.commands[name]
        above = click.Context(cli, info_name="onnx-geed")
        text = (
            click.Context(
                command, parent=above, info_name=name, terminal_width=88, max_content_width=88
            )
            .get_help()
            .replace("\b\n", "")
        )
        return [nodes.literal_block(text, text, language="text")]


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    maths = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math">{maths}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Equations as MathML, which browsers draw without a script; the ``help`` directive."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_directive("help", Help)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
