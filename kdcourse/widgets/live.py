"""A widget as an anywidget: its view belongs to a running kernel, and Python can read where the reader has put it."""

from kdcourse.widgets.widget import MODULE, Widget

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(
        'kdcourse.widgets.live needs anywidget, which is not installed: pip install -e ".[lab]" in the folder of the '
        "course"
    ) from error


class Live(anywidget.AnyWidget):
    """Made by :func:`live`.

    Attributes:
        value: the controls' values by name; for :func:`kdcourse.widgets.temperature`, ``T`` and the digit's ``pixels``.
    """

    _esm = MODULE
    spec = traitlets.Dict().tag(sync=True)
    value = traitlets.Dict().tag(sync=True)


def live(widget: Widget) -> Live:
    """The same widget with a ``value`` that Python reads.

    Without its kernel it shows nothing, in exports either: lessons show the :class:`Widget` itself.
    """
    return Live(spec=widget.spec)
