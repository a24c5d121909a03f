"""Figures of a lesson, each with a description in words for those who cannot see it."""

from html import escape

from matplotlib.figure import Figure


def show(figure: Figure, words: str) -> None:
    """Show a figure in a notebook, with a folded description in words below it.

    The description is also stored as the image's ``alt`` text, which nbconvert uses in HTML.

    Args:
        figure: the figure, which is closed afterwards.
        words: the description: kind of chart, axes, and what there is to see. In a cell whose output is compared, it
            must hold for any data.

    Raises:
        ValueError: there is no description.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    words = " ".join(words.split())
    if not words:
        raise ValueError("say in words what the figure shows, for those who cannot see it")
    display(figure, metadata={"image/png": {"alt": words}})
    display(folded(words), raw=True)
    plt.close(figure)


def folded(words: str) -> dict[str, str]:
    """A figure's description as an output of a notebook, by MIME type: folded in HTML, plain elsewhere."""
    html = f"<details><summary>The figure in words</summary>{escape(words)}</details>"
    return {"text/html": html, "text/plain": words}
