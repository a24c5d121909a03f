"""Figures with controls, and the library's source, for notebooks. This is the only file for notebooks."""

import inspect
import io
import textwrap
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

try:
    import ipywidgets
    from IPython.display import Markdown
except ImportError as error:
    raise ImportError(
        'kdlib.widgets needs ipywidgets, which is not installed: pip install -e ".[lab]" in the folder of the course'
    ) from error


def explore(draw: Callable[..., tuple[Figure, str]], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Show controls above a figure that is drawn again whenever one of them changes.

    The figure is a PNG, so that ``draw`` called directly gives the same figure for print. A sentence below it says what
    it shows, for those who cannot see it. Sliders react to the arrow keys.

    Args:
        draw: takes the value of each control under the control's name; returns a figure and a sentence about it.
        controls: widgets with a value. One without a ``description`` is labelled with its name.

    Returns:
        The widget, which a cell shows as its last value.

    >>> def draw(width):
    ...     return Figure(figsize=(width, 1)), f"{width} inches wide"
    >>> explore(draw, width=ipywidgets.IntSlider(3)).children[-1].value
    '3 inches wide'
    """
    picture, sentence = ipywidgets.Image(format="png"), ipywidgets.Label()

    def redraw(_: Any = None) -> None:
        figure, sentence.value = draw(**{name: control.value for name, control in controls.items()})
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=figure.dpi)
        _close(figure)
        picture.value = png.getvalue()

    for name, control in controls.items():
        control.description = control.description or name
        control.style.description_width = "initial"
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture, sentence])


def _close(figure: Figure) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)


def source(*things: Callable) -> Markdown:
    """Source code of functions or classes, for reading in a lesson instead of a copy that may become outdated.

    >>> from kdlib.losses import check_fraction
    >>> print(source(check_fraction).data.splitlines()[2])
    def check_fraction(name: str, value: float) -> None:
    """
    blocks = [f"*{thing.__module__}*\n```python\n{textwrap.dedent(inspect.getsource(thing))}```" for thing in things]
    return Markdown("\n\n".join(blocks))
