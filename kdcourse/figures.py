"""A lesson's figures, each with its content in words for those who cannot see it."""

from html import escape

from matplotlib.figure import Figure


def show(figure: Figure, words: str) -> None:
    """Show a figure in a notebook, and below it, folded, what it shows in words.

    The words are also the picture's ``alt`` text in its metadata, where HTML made by nbconvert takes it from.

    Args:
        figure: is closed afterwards.
        words: what the picture shows: kind of chart, axes, and what there is to see. In a cell whose output is
            compared, words that hold for any data.

    Raises:
        ValueError: no words.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    words = " ".join(words.split())
    if not words:
        raise ValueError("say in words what the figure shows, for those who cannot see it")
    display(figure, metadata={"image/png": {"alt": words}})
    folded = f"<details><summary>The figure in words</summary>{escape(words)}</details>"
    display({"text/html": folded, "text/plain": words}, raw=True)
    plt.close(figure)
