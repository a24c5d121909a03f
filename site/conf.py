"""How Sphinx makes the site of what ``tools/site.py`` gathered. Nothing is executed; nothing comes from a server."""

import base64
import hashlib
import importlib
import json
import pkgutil
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

sys.path.insert(0, str(Path(__file__).parents[1]))

import kdlib

project = "Knowledge distillation"
author = "the kdlib maintainers"
copyright = "the kdlib maintainers. Text and figures: CC BY 4.0; code: MIT"
release = kdlib.__version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.githubpages"]
exclude_patterns = ["extra"]

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # else from a server
nb_merge_streams = True
nb_code_prompt_show = "Show a check, for those who change the course"
nb_code_prompt_hide = "Hide the check"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = "Knowledge distillation, a course you can run"
html_static_path = ["static"]
html_sidebars = {page: [] for page in ("docs/glossary", "bibliography", "search", "genindex")}
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = []
html_context = {"default_mode": "auto"}
html_domain_indices = False
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it fetches pages, which a browser refuses for files
html_theme_options = {
    "logo": {"text": "Knowledge distillation"},
    "header_links_before_dropdown": 8,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}


def pictures_in_words(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure of a notebook the text alternative that its output's metadata hold, which MyST-NB leaves out."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    words = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                digest = hashlib.sha256(base64.b64decode("".join(output["data"]["image/png"]))).hexdigest()
                words[digest] = output["metadata"].get("image/png", {}).get("alt", "")
    for image in doctree.findall(nodes.image):
        if Path(image["uri"]).stem in words:
            image["alt"] = words[Path(image["uri"]).stem]


def described_by_their_class(
    app: Sphinx, what: str, name: str, thing: object, skip: bool, options: dict
) -> bool | None:
    """Leave out fields, since the class describes them under "Attributes"."""
    is_method = callable(thing) or isinstance(thing, (property, classmethod, staticmethod))
    return True if what == "class" and not is_method else None


def words_about_a_constant(app: Sphinx, what: str, name: str, thing: object, options: dict, lines: list[str]) -> None:
    """Find the words below a constant in the file that defines it, where its package imports it from there."""
    if what != "data":
        return
    package, _, constant = name.rpartition(".")
    parts = pkgutil.iter_modules(getattr(importlib.import_module(package), "__path__", ()), f"{package}.")
    lines.clear()  # autodoc gives a dict's own words to one that has none
    for module in (package, *(part.name for part in parts)):
        analyzer = ModuleAnalyzer.for_module(module)
        analyzer.analyze()
        lines += analyzer.attr_docs.get(("", constant), [])


def public_home(app: Sphinx, env: object, node: nodes.Element, content: nodes.Element) -> nodes.Node | None:
    """Lead from a name that ``kdlib`` offers to the page of its module."""
    name = node.get("reftarget", "").removeprefix("kdlib.").split(".")
    if name[0] not in kdlib._HOMES:
        return None
    target = ".".join([kdlib._HOMES[name[0]], *name])
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], target, node, content)


def valid_for_screen_readers(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document) -> None:
    """Mend what axe-core finds wrong with generated HTML.

    Sphinx writes a long signature's parameters as a list without terms; MyST-NB names a folded cell differently from
    what it shows; a heading of a table without words is no heading.
    """

    def lines(match: re.Match) -> str:
        return re.sub(r"(</?)d[ld]>", r"\1span>", match[0]).replace("<span>", '<span class="sig-line">')

    if "body" in context:
        body = context["body"].replace(' aria-label="Toggle hidden content"', "")
        body = re.sub(r"<th\b([^>]*)>(?:\s|<p>|</p>)*</th>", r"<td\1></td>", body)
        context["body"] = re.sub(r"<dl>\n(?:<dd>(?:(?!<d[ld]).)*?</dd>\n)+</dl>", lines, body, flags=re.S)


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("config-inited", lambda app, config: config.html_extra_path.append(str(Path(app.srcdir) / "extra")))
    app.connect("doctree-read", pictures_in_words)
    app.connect("autodoc-skip-member", described_by_their_class)
    app.connect("autodoc-process-docstring", words_about_a_constant)
    app.connect("html-page-context", valid_for_screen_readers)
    app.connect("missing-reference", public_home)
