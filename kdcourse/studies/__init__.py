"""Long computations whose results the course stores; each can be repeated with ``kdlib reproduce NAME``."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from kdcourse.studies import cifar as cifar_studies
from kdcourse.studies import encoder as encoder_studies
from kdcourse.studies import features as feature_studies
from kdcourse.studies import hinton
from kdcourse.studies import language as language_studies
from kdcourse.studies import many as many_studies
from kdcourse.studies import mnist as mnist_studies
from kdcourse.studies import prompting as prompting_studies
from kdcourse.studies import rationales as rationale_studies
from kdcourse.studies import shrunk as shrunk_studies
from kdcourse.studies.ledger import PRECISION, Ledger
from kdlib.data import Dataset
from kdlib.machine import versions
from kdlib.teachers import CHECKSUMS

FOLDER = Path(__file__).parent / "results"
"""The folder of the stored results."""


class Study(NamedTuple):
    """A long computation.

    Attributes:
        data: the data set it is about; empty if it makes its own texts.
        teachers: the shipped teachers that it uses.
        conduct: carries it out.
        quick: carries out a small part of it, to test that it runs; or None.
        report: writes a page next to the ledger's file, and returns it as text; or None.
        source: the source of its data: ``"full"``, ``"offline"`` for what comes with the course, or ``"own"``.
        precision: of training steps and of teachers' tables.
    """

    data: str
    teachers: tuple[str, ...]
    conduct: Callable[[Ledger, Dataset | None], None]
    quick: Callable[[Ledger, Dataset | None], None] | None = None
    report: Callable[[Ledger], str] | None = None
    source: str = "full"
    precision: str = PRECISION


STUDIES = {
    "hinton-mnist": Study(
        "mnist", (), partial(hinton.study, hinton.FULL), partial(hinton.study, hinton.QUICK), hinton.report
    ),
    "mnist-controls": Study("mnist", (mnist_studies.TEACHER,), mnist_studies.controls),
    "mnist-unseen": Study("mnist", (mnist_studies.TEACHER,), mnist_studies.unseen),
    "mnist-features": Study(
        "mnist",
        (),
        partial(feature_studies.study, optimizer=feature_studies.UNFUSED),
        source="offline",
        precision=feature_studies.PRECISION,
    ),
    "mnist-features-again": Study(
        "mnist", (), feature_studies.study, source="offline", precision=feature_studies.PRECISION
    ),
    "cifar10-features": Study(
        "cifar10", (cifar_studies.TEACHER,), feature_studies.photographs, precision=feature_studies.PRECISION
    ),
    "many-teachers": Study(
        "mnist",
        (),
        partial(many_studies.study, many_studies.FULL),
        partial(many_studies.study, many_studies.QUICK),
        precision=many_studies.PRECISION,
    ),
    "mnist-shrunk": Study(
        "mnist",
        (shrunk_studies.TEACHER,),
        partial(shrunk_studies.study, shrunk_studies.FULL),
        partial(shrunk_studies.study, shrunk_studies.QUICK),
        precision=shrunk_studies.PRECISION,
    ),
    "language": Study(
        "python-source",
        (language_studies.TEACHER,),
        partial(language_studies.study, language_studies.FULL),
        partial(language_studies.study, language_studies.QUICK),
        source="offline",
        precision=language_studies.PRECISION,
    ),
    "encoder": Study(
        "python-source",
        (),
        partial(encoder_studies.study, encoder_studies.FULL),
        partial(encoder_studies.study, encoder_studies.QUICK),
        source="offline",
        precision=encoder_studies.PRECISION,
    ),
    "prompting": Study(
        "",
        (),
        partial(prompting_studies.study, prompting_studies.FULL),
        partial(prompting_studies.study, prompting_studies.QUICK),
        source="own",
        precision=prompting_studies.PRECISION,
    ),
    "rationales": Study(
        "",
        (),
        partial(rationale_studies.study, (rationale_studies.TWO, rationale_studies.THREE)),
        partial(rationale_studies.study, (rationale_studies.QUICK,)),
        source="own",
        precision=rationale_studies.PRECISION,
    ),
    "cifar10-sweep": Study("cifar10", (cifar_studies.TEACHER,), cifar_studies.sweep),
    "cifar10-teachers": Study("cifar10", (cifar_studies.TEACHER, cifar_studies.BETTER_TEACHER), cifar_studies.teachers),
    "cifar10-views": Study("cifar10", (cifar_studies.TEACHER,), cifar_studies.views),
    "cifar10-own-settings": Study(
        "cifar10",
        (cifar_studies.TEACHER, cifar_studies.BETTER_TEACHER),
        cifar_studies.own_settings,
    ),
    "cifar10-tuned-few": Study("cifar10", (cifar_studies.TEACHER,), cifar_studies.tuned_few),
    "cifar10-tuned-all": Study("cifar10", (cifar_studies.TEACHER,), cifar_studies.tuned_all),
}


def results(name: str) -> pd.DataFrame:
    """The stored rows of a study, as written by the command; ``.attrs["about"]`` has the data and versions.

    Raises:
        ValueError: the study is unknown.
        FileNotFoundError: it has no stored results.
    """
    _look_up(name)
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"there are no stored results of {name}: make them with `kdlib reproduce {name}`")
    content = json.loads(path.read_text(encoding="utf-8"))
    frame = pd.DataFrame(content["rows"])
    frame.attrs["about"] = content["about"]
    return frame


def conduct(name: str, data: Dataset | None, path: str | os.PathLike, *, quick: bool = False) -> Ledger:
    """Carry out a study, or the rest of it.

    Args:
        name: one of :data:`STUDIES`.
        data: the data set the study is about, from its source; None if it makes its own texts.
        path: path of the JSON file; rows already in it are kept.
        quick: whether to run its quick form, with a separate file.

    Raises:
        ValueError: the study is unknown, or has no quick form; the data are not its own, or not complete; the file has
            rows from other conditions.
    """
    study = _look_up(name)
    if quick and study.quick is None:
        raise ValueError(
            f"{name} has no quick form; these have: {', '.join(key for key in STUDIES if STUDIES[key].quick)}"
        )
    given = (data.name, data.source) if data is not None else ("", "own")
    if given != (study.data, study.source):
        wanted = f"all of {study.data}" if study.source == "full" else f"{study.data} with --source {study.source}"
        raise ValueError(f"{name} needs {wanted}, but these data are {data}")
    about = {
        "study": name,
        "data": study.data,
        "source": study.source,
        **({"detail": data.detail, "train_data": data.train.fingerprint} if data is not None else {}),
        "teachers": {teacher: CHECKSUMS[teacher] for teacher in study.teachers},
        "threads": torch.get_num_threads(),
        "precision": study.precision,
        "versions": versions(),
    }
    if study.quick:
        about["quick"] = quick
    ledger = Ledger(Path(path), about)
    (study.quick if quick else study.conduct)(ledger, data)
    return ledger


def _look_up(name: str) -> Study:
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}; known studies: {', '.join(STUDIES)}")
    return STUDIES[name]
