"""Strangers' Markdown as HTML that does nothing: text, lists, tables, code, and formulas as MathML.

No links, no images, no styles, nothing that is loaded from anywhere; what was a link or an image is named in words.
"""

from html import escape, unescape
from xml.etree import ElementTree

import mistune
import nh3
from latex2mathml.converter import convert_to_element
from nbconvert.filters.markdown_mistune import MarkdownWithMath

LONGEST, LONGEST_FORMULA = 20_000, 2_000
"""Characters of a text that are shown, and of a formula that is set; a longer one is shown as it was written."""

TEXT = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "del", "code", "pre", "blockquote",
    "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "div", "details", "summary",
}  # fmt: skip

MATHS = {
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msup", "msub", "msubsup", "mfrac", "msqrt", "mroot",
    "munder", "mover", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "mmultiscripts",
    "mprescripts", "none", "menclose",
}  # fmt: skip

ATTRIBUTES = {
    "math": {"display"},
    "mo": {"stretchy", "fence", "form", "separator", "lspace", "rspace", "minsize", "maxsize", "movablelimits"},
    "mi": {"mathvariant"},
    "mn": {"mathvariant"},
    "mtext": {"mathvariant"},
    "mspace": {"width"},
    "mfrac": {"linethickness"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "mstyle": {"displaystyle", "scriptlevel", "mathvariant"},
    "mtable": {"columnalign", "rowspacing", "columnspacing"},
    "mtd": {"columnalign"},
    "ol": {"start"},
}

MARKDOWN = str.maketrans({one: f"&#{ord(one)};" for one in "\\`*_[](){}$!~:|\n\t"})
"""Characters by which Markdown, and mathematics within it, begin; none of them stands in the name of a tag."""


def harmless(markdown: str, *, ours: bool = False) -> str:
    """Turn Markdown into one line of HTML, which Markdown takes as it is and MathJax leaves alone.

    Args:
        ours: whether the course wrote it: its HTML is kept as far as it does nothing. A stranger's is shown as text.
    """
    left_out = f"<p>({len(markdown) - LONGEST:,} more characters)</p>" if len(markdown) > LONGEST else ""
    markdown = markdown[:LONGEST]
    try:
        html = MarkdownWithMath(renderer=_Plain(escape=not ours)).parse(markdown)[0]
    except Exception:  # a stranger's text may be anything, such as lists a thousand deep
        html = f"<pre>{escape(markdown)}</pre>"
    clean = nh3.clean(f"{html}{left_out}", tags=TEXT | MATHS, attributes=ATTRIBUTES, url_schemes=set(), link_rel=None)
    return f'<div class="tex2jax_ignore">{clean.strip().translate(MARKDOWN)}</div>'


class _Plain(mistune.HTMLRenderer):
    """HTML of Markdown: links and images in words, formulas as MathML."""

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return text if escape(url) == text else f"{text} (a link to {escape(url)})"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return f"(a picture, {escape(text)}, at {escape(url)})"

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")

    def block_math(self, body: str) -> str:
        return _formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def _formula(tex: str, display: str) -> str:
    """A formula as MathML, or as it was written where it cannot be set."""
    as_written = f"<code>${escape(tex)}$</code>"
    if len(tex) > LONGEST_FORMULA:
        return as_written
    try:
        formula = convert_to_element(tex.strip(), display=display)
        for one in formula.iter():  # its texts are HTML already, a stranger's `<img>` in them too
            one.text = unescape(one.text or "")
        return ElementTree.tostring(formula, encoding="unicode")
    except Exception:  # a stranger's formula may be broken in any way
        return as_written
