"""Silent checks for grading: they only record their arguments, and have only the inputs that a learner sees."""

import json
import sys
from pathlib import Path
from types import ModuleType

CHECKED: dict[str, object] = {}
"""The last argument of each part's check in a cell."""


class _Silent(ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        part = self.__dict__[name] = _Part(name)
        return part


class _Part:
    def __init__(self, name: str):
        self.name = name

    def __call__(self, function: object):
        CHECKED[self.name] = function

    def draw(self, seed: int):
        import wire

        sent = json.loads(Path(__file__).with_name("visible.json").read_text(encoding="utf-8"))
        return [wire.decode(case) for case in sent.get(self.name, [])]


class NotRightYet(AssertionError):
    pass


for _number in range(13):
    _name = f"ex{_number:02d}"
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _Silent(_name)
