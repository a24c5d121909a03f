"""A widget as notebooks and web pages take it: a still picture with its sentence, and the script that makes it move."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

MODULE = Path(__file__).with_name("widgets.js").read_text(encoding="utf-8")
"""The JavaScript module, the same for all widgets."""

HEIGHT = 330
"""Pixels of a picture that the module draws."""

START = """const host = document.currentScript.parentElement;
const module = host.querySelector(".kd-module").textContent;
import("data:text/javascript," + encodeURIComponent(module)).then(({ mount }) => mount(host));"""
"""The script beside each widget: it runs the module from the page it stands in."""


class Widget:
    """A picture with sliders, drawn by ``widgets.js``.

    Attributes:
        spec: what the module draws, JSON values: ``kind``, ``title``, ``picture`` (the picture in words), ``controls``
            (see :func:`control`) and what the kind needs.
        png: the still picture, drawn at the controls' start.
        sentence: what that picture shows; the module says the same at the start.
    """

    def __init__(self, spec: dict[str, Any], still: Figure, sentence: str) -> None:
        import matplotlib.pyplot as plt

        image = io.BytesIO()
        still.savefig(image, format="png", dpi=still.dpi)
        plt.close(still)
        self.spec, self.png, self.sentence = spec, image.getvalue(), sentence

    @property
    def settings(self) -> str:
        """The controls' start in words, where the still picture stands."""
        return ", ".join(f"{each['label']} {each['texts'][each['start']]}" for each in self.spec["controls"])

    @property
    def words(self) -> str:
        """The still picture in words."""
        return f"{self.spec['picture']} At {self.settings}. {self.sentence}"

    def html(self) -> str:
        """The widget for a web page, complete: still picture, data, module."""
        picture = base64.b64encode(self.png).decode()
        note = f"A still picture, at {self.settings}. {self.sentence} To move it, run the cell in a notebook."
        spec = json.dumps(self.spec, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        return f"""<div class="kd-widget">
<div class="kd-still">
<img src="data:image/png;base64,{picture}" alt="{escape(self.words)}">
<p><em>{escape(note)}</em></p>
</div>
<details><summary>The figure in words</summary>{escape(self.spec["picture"])}</details>
<script type="application/json">{spec}</script>
<script class="kd-module" type="text/plain">{MODULE}</script>
<script>{{{START}}}</script>
</div>"""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        """What a notebook stores. No view of a kernel's widget: it would be empty or wrong without that kernel."""
        png = base64.b64encode(self.png).decode() + "\n"
        return {"text/html": self.html(), "image/png": png, "text/plain": self.words}, {
            "image/png": {"alt": self.words}
        }


def control(name: str, label: str, values: Sequence[float], texts: Sequence[str], start: float) -> dict[str, Any]:
    """A slider over values, each with its text; it starts at the value closest to ``start``."""
    nearest = min(range(len(values)), key=lambda place: abs(values[place] - start))
    return {"name": name, "label": label, "values": list(values), "texts": list(texts), "start": nearest}


def number(value: float, digits: int, plus: bool = False) -> str:
    """A number with a true minus sign; with ``plus``, positive ones have a sign too.

    >>> number(-0.54, 1), number(0.54, 1, plus=True), number(-0.01, 1)
    ('−0.5', '+0.5', '0.0')
    """
    size = f"{abs(value):.{digits}f}"
    if float(size) == 0:
        return size
    return ("−" if value < 0 else "+" if plus else "") + size
