"""Former paths of modules, kept for one release: ``import kdlib.train`` gives :mod:`kdlib.training`.

Notebooks that were handed out before the modules moved still run. Modules are imported only on use.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PATHS = {
    "kdlib.check": "kdlib.health",
    "kdlib.checks": "kdcourse.checks",
    "kdlib.cifar_studies": "kdcourse.studies.cifar",
    "kdlib.compare": "kdlib.judging.compare",
    "kdlib.cost": "kdlib.judging.cost",
    "kdlib.curves": "kdlib.judging.curves",
    "kdlib.demo": "kdcourse.demo",
    "kdlib.hinton": "kdcourse.studies.hinton",
    "kdlib.ledger": "kdcourse.studies.ledger",
    "kdlib.metrics": "kdlib.judging.metrics",
    "kdlib.scorecards": "kdlib.judging.scorecards",
    "kdlib.shifts": "kdlib.judging.shifts",
    "kdlib.sources": "kdlib.data.sources",
    "kdlib.standin": "kdlib.data.standin",
    "kdlib.studies": "kdcourse.studies",
    "kdlib.train": "kdlib.training",
    "kdlib.zoo": "kdlib.teachers",
}
"""The new path of each module that moved."""


class _Former(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None):
        package = ".".join(name.split(".")[:2])
        return ModuleSpec(name, self) if package in PATHS else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        package = ".".join(spec.name.split(".")[:2])
        module = importlib.import_module(PATHS[package] + spec.name.removeprefix(package))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own specification back; it was executed when it was imported."""
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Make the former paths importable."""
    sys.meta_path.append(_Former())
