"""Students' Markdown as harmless HTML: text, lists, tables, code, and formulas as MathML.

There are no links, images or styles, and nothing is loaded from elsewhere; links and images are described in words.
"""

from html import escape, unescape
from xml.etree import ElementTree

import mistune
import nh3
from latex2mathml.converter import convert_to_element
from nbconvert.filters.markdown_mistune import MarkdownWithMath

LONGEST, LONGEST_FORMULA = 20_000, 2_000
"""Most characters of a text that are shown, and of a formula that is rendered; a longer one is shown as source."""

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
"""Characters that begin Markdown, or mathematics in it; none of them occurs in the name of a tag."""


def harmless(markdown: str, *, ours: bool = False) -> str:
    """Convert Markdown to one line of HTML, which Markdown leaves unchanged and MathJax ignores.

    Args:
        ours: whether it is from the course: then its harmless HTML is kept. A student's HTML is shown as text.
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
    """A renderer of Markdown to HTML: links and images in words, formulas as MathML."""

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
    """A formula as MathML, or as source if it cannot be rendered."""
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
