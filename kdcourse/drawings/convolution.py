"""A convolution: one small kernel, the same weights at every place of the image."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kdlib import plots

IMAGE = torch.tensor([[9, 9, 9, 1, 1, 1]] * 3 + [[9, 9, 9, 9, 9, 9]] + [[1, 1, 1, 1, 1, 1]] * 2)
"""One channel of 6 × 6 pixels: dark on the upper right and below."""

KERNEL = torch.tensor([[1, 0, -1]] * 3)
"""Nine weights that answer where the image gets darker from left to right."""

PLACES = ((1, 3), (4, 1))
"""Row and column of two outputs whose windows are drawn."""

WORDS = """Three grids of numbers, left to right. An image of 6 by 6 pixels, light (9) and dark (1), with two windows of
3 by 3 pixels marked. A kernel of 3 by 3 weights: 1, 0, -1 in each row. The output, 6 by 6 numbers: each is the sum of
the nine products of kernel and window. In the first window the image gets darker from left to right, and the output is
24; in the other nothing changes from left to right, and the output is 0. The same nine weights are used at both
places."""


def output() -> torch.Tensor:
    """What the kernel makes of the image [6, 6], with a border of zeros around it."""
    image, kernel = IMAGE[None, None].float(), KERNEL[None, None].float()
    return torch.nn.functional.conv2d(image, kernel, padding=1)[0, 0].long()


def drawing() -> Figure:
    """The image, the kernel and what it makes of the image, with two windows and where their sums go."""
    figure, axes = plots.new_figure(3, width=13, height=4.6)
    figure.get_layout_engine().set(wspace=0.12)
    titles = ("one channel of an image", "kernel: nine weights", "output: a sum at every place")
    for axis, grid, title in zip(axes, (IMAGE, KERNEL, output()), titles, strict=True):
        _grid(axis, grid, shades=grid is IMAGE)
        axis.set_title(title, fontsize=15)
    for style, (row, column) in zip(plots.STYLES, PLACES, strict=False):
        for axis, reach in ((axes[0], 1.5), (axes[2], 0.5)):
            corner, side = (column - reach, row - reach), 2 * reach
            line = {"edgecolor": style["color"], "linestyle": style["linestyle"], "linewidth": 4}
            axis.add_patch(Rectangle(corner, side, side, fill=False, zorder=3, clip_on=False, **line))
    for axis, sign in ((axes[0], "∗"), (axes[1], "=")):
        axis.annotate(sign, (1.1, 0.5), xycoords="axes fraction", fontsize=30, ha="center", va="center")
    return figure


def _grid(axis: Axes, numbers: torch.Tensor, shades: bool) -> None:
    rows, columns = numbers.shape
    for row in range(rows):
        for column in range(columns):
            value = numbers[row, column].item()
            face = str(0.55 + 0.05 * value) if shades else "white"
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor="#999999"))
            text = str(value).replace("-", "−")
            axis.text(column, row, text, ha="center", va="center", fontsize=16)
    middle = (rows - 1) / 2
    axis.set(xlim=(middle - 3.1, middle + 3.1), ylim=(middle + 3.1, middle - 3.1), aspect="equal")
    axis.set_axis_off()
