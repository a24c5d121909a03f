"""The library's source, for reading in notebooks. This is the only file for notebooks."""

import inspect
import textwrap
from collections.abc import Callable

try:
    from IPython.display import Markdown
except ImportError as error:
    raise ImportError(
        'kdlib.widgets needs IPython, which is not installed: pip install -e ".[lab]" in the folder of the course'
    ) from error


def source(*things: Callable) -> Markdown:
    """Source code of functions or classes, for reading in a lesson instead of a copy that may become outdated.

    >>> from kdlib.losses import check_fraction
    >>> print(source(check_fraction).data.splitlines()[2])
    def check_fraction(name: str, value: float) -> None:
    """
    blocks = [f"*{thing.__module__}*\n```python\n{textwrap.dedent(inspect.getsource(thing))}```" for thing in things]
    return Markdown("\n\n".join(blocks))
