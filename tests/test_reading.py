"""Strangers' Markdown: what is shown of it, and that Markdown and MathJax find nothing to do in what is shown."""

from html import unescape

import pytest
from nbconvert.filters import markdown2html

from grading.reading import harmless


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**a** _b_ `c`", "<strong>a</strong> <em>b</em> <code>c</code>"),
        ("$a<b$", "<mi>a</mi><mo><</mo><mi>b</mi>"),
        (
            "$$\\frac{1}{2}$$",
            '<math display="block"><mrow><mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac></mrow></math>',
        ),
        ("\\begin{align}a&=b\\end{align}", "<mtable"),
        ("$\\nonsense{$", "<code>$\\nonsense{$</code>"),
        ("$\\text{<b>}$", "<mtext><b></mtext>"),
        ("[here](http://far.example)", "here (a link to http://far.example)"),
        ("![me](http://far.example/a.png)", "(a picture, me, at http://far.example/a.png)"),
        ("<http://far.example>", "<p>http://far.example</p>"),
        ("```\n[a](b)\n\n$x$\n```", "<pre><code>[a](b)\n\n$x$\n</code></pre>"),
        ("x" * 30_000, "(10,000 more characters)"),
    ],
)
def test_what_somebody_wrote_is_shown(markdown, shown):
    assert shown in unescape(harmless(markdown))


@pytest.mark.parametrize("markdown", ["a\n\nb", "[a](b)", "`a\n\n$x$`", "# a\n\n- b\n\n      c", "$$x$$\n\n<b>\n\n*c*"])
def test_markdown_takes_it_as_it_is(markdown):
    html = harmless(markdown)
    assert markdown2html(html).strip() == html and "\n" not in html and html.startswith('<div class="tex2jax_ignore">')


def test_the_courses_own_hints_fold_and_a_strangers_html_is_text():
    hint = "<details><summary>Hint</summary>\n\n$x$ <img src=x onerror=alert(1)>\n\n</details>"
    assert "<details><summary>Hint</summary>" in harmless(hint, ours=True) and "<img" not in harmless(hint, ours=True)
    assert "&lt;details&gt;" in harmless(hint) and "<details" not in harmless(hint)


@pytest.mark.parametrize(
    "piece", ["$", "{", "\\frac{1}{", "\\left(", ">", "- ", "[", "![[", "\\begin{a}", "\\\\[", "|a"]
)
def test_whatever_somebody_repeats_something_is_shown(piece):
    assert harmless(piece * 9_000).endswith("</div>") and harmless(f"${piece * 900}$").endswith("</div>")
