"""A model as one ONNX file that runs without PyTorch and without this library, checked before it gets its name."""

import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.data import Dataset, Normaliser, Split
from kdlib.extras import need
from kdlib.files import atomically
from kdlib.judging import metrics, predictions
from kdlib.judging.runtimes import onnx_model
from kdlib.machine import versions
from kdlib.models import Prepared, asking, count_parameters, describe
from kdlib.shrinking import runtime_int8
from kdlib.shrinking.copies import own_preparation, permanent
from kdlib.shrinking.quantising import is_quantised

OPSET = 18
"""The version of ONNX's operations that files are written in; ONNX Runtime has known it since 1.14."""

TOLERANCE = 1e-4
"""The largest difference from PyTorch's logits that is accepted, as a share of the largest logit, or of 1."""

TOLERANCE_ON_GRIDS = 0.02
"""The same for a fake-quantised model, in which a number between two codes may go to either: seen was up to 0.003."""

BATCHES = (1, 64)
"""Sizes of the batches by which answers are compared."""


@dataclass(frozen=True)
class Exported:
    """A file that :func:`export` wrote, and what was seen when it was checked.

    Attributes:
        path: of the file.
        bytes: of the file.
        difference: the largest difference of its float logits from PyTorch's.
        samples: number of labelled validation images; 0 if there are none.
        errors: of the float file on them.
        int8: None for a float file; else what was tried, one dict a kind of quantisation: ``kind``, ``errors``, ``ms``
            (batch of 64, one thread), ``kept``.
    """

    path: Path
    bytes: int
    difference: float
    samples: int
    errors: int
    int8: list[dict] | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.bytes:,} bytes; logits differ from PyTorch's by at most {self.difference:.1e}"]
        if self.samples:
            lines.append(f"float: {self.errors} errors of {self.samples:,} validation images")
        for row in self.int8 or ():
            kept = ", kept" if row["kept"] else ""
            lines.append(f"{row['kind']}: {row['errors']} errors, {row['ms']:.3f} ms for 64 images{kept}")
        return "\n".join(lines)


def export(
    model: Any, path: str | os.PathLike, data: Dataset, *, int8: bool = False, most_lost: float = 1.0
) -> Exported:
    """Write a model to an ONNX file that takes raw images in batches of any size, and gives logits.

    Its preparation is inside. Its metadata have ``classes`` (names in the order of the logits), ``input`` (shape and
    dtype of an image) and ``card`` (what it is and what was measured), each as JSON. Until all checks have passed the
    file has a temporary name; what is refused leaves nothing behind.

    Args:
        model: a result of :func:`kdlib.fit`, a :class:`kdlib.models.Prepared`, or a module; of one tensor.
        path: of the file, ``….onnx``.
        data: the data it was trained on. Answers are compared with PyTorch's on validation images (training images
            where there are none), at batch 1 and 64.
        int8: quantise it for ONNX Runtime, see :func:`kdlib.shrinking.runtime_int8.quantised`; it is calibrated on
            training images.
        most_lost: points of accuracy on validation that int8 may cost.

    Raises:
        ImportError: the extra ``deploy`` is not installed.
        TypeError: the model is not a module and has none; its inputs are not one tensor.
        ValueError: the name does not end in .onnx; the model cannot be exported; its answers differ; int8 without
            labelled validation images, with too few training images, or costing more than ``most_lost``.
    """
    path = Path(path)
    _check_request(path, most_lost)
    whole = _whole(model, data, int8)
    shown = (data.train if data.validation is None else data.validation).inputs[: sum(BATCHES)]
    about, labelled = _about(whole, data, shown), _labelled(data)
    with atomically(path) as temporary:
        _write(whole, shown, temporary)
        describe_file(temporary, about)
        difference = _compared(whole, temporary, shown)
        errors = 0
        if labelled is not None:
            errors = metrics.errors(predictions(onnx_model(temporary), labelled, classes=data.classes))
            about["card"] |= {"validation_samples": len(labelled), "float_errors": errors}
        tried = runtime_int8.quantised(temporary, data, labelled, errors, most_lost) if int8 else None
        about["card"] |= {"difference": difference, "int8": tried}
        describe_file(temporary, about)
    return Exported(path, path.stat().st_size, difference, 0 if labelled is None else len(labelled), errors, tried)


def describe_file(path: Path, about: dict[str, Any]) -> None:
    """Write ``about`` into an ONNX file's metadata, each value as JSON under its name."""
    onnx = need("onnx", "exporting")
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    onnx.save(proto, path)


def _check_request(path: Path, most_lost: float) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        need(package, "exporting")
    if path.suffix != ".onnx":
        raise ValueError(f"the file's name must end in .onnx, not {path.name!r}")
    if not isinstance(most_lost, int | float) or not 0 <= most_lost <= 100:
        raise ValueError(f"most_lost must be a number of points from 0 to 100, not {most_lost!r}")


def _whole(model: Any, data: Dataset, int8: bool) -> Prepared:
    """A copy of the model on the CPU, without masks, with the preparation of its inputs and names of its classes."""
    module = permanent(model)
    if not isinstance(data.train.inputs, Tensor):
        raise TypeError(f"only models of one tensor are exported, and {data.name}'s inputs are not one in memory")
    if int8 and is_quantised(module):
        raise ValueError(f"{describe(module)} is quantised already: export it without int8, or the float model with")
    return Prepared(module, own_preparation(model, data, "exporting"), asking.class_names(model) or data.classes)


def _labelled(data: Dataset) -> Split | None:
    """The validation samples with a class each, if there are any."""
    split = data.validation
    if split is None or data.task != "classification" or not split.labelled.any():
        return None
    return split.select(split.labelled)


class _Whole(nn.Module):
    """From raw images to logits."""

    def __init__(self, whole: Prepared) -> None:
        super().__init__()
        self.model, self.prepare = whole.model, whole.prepare

    def forward(self, images: Tensor) -> Tensor:
        return asking.logits_of(self.model(self.prepare(images)))


def _write(whole: Prepared, shown: Tensor, path: Path) -> None:
    """Trace a model in eval mode and write it; ValueError with the cause if that fails."""
    batch = {0: torch.export.Dim("batch")}
    loud = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loud]
    try:
        for each in loud:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own making
            program = torch.onnx.export(
                _Whole(whole).eval(),
                (shown[:2].clone(),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": batch},
                verbose=False,
            )
            program.save(path, external_data=False)
    except Exception as error:  # the exporter's own kinds, with pages of text
        raise ValueError(
            f"{describe(whole.model)} cannot be exported to ONNX ({type(error).__name__}: {_first_line(error)})"
        ) from error
    finally:
        for each, level in zip(loud, levels, strict=True):
            each.setLevel(level)
    onnx = need("onnx", "exporting")
    if (found := {each.version for each in onnx.load(path).opset_import if not each.domain}) != {OPSET}:
        raise ValueError(f"PyTorch wrote operations of version {sorted(found)}, where {OPSET} was asked for")


def _compared(whole: Prepared, path: Path, shown: Tensor) -> float:
    """The largest difference of a file's logits from PyTorch's, over batches of :data:`BATCHES`.

    Raises:
        ValueError: it is beyond :data:`TOLERANCE`, or :data:`TOLERANCE_ON_GRIDS`.
    """
    answer, largest, start = onnx_model(path), 0.0, 0
    accepted = TOLERANCE_ON_GRIDS if is_quantised(whole.model) else TOLERANCE
    for size in BATCHES:
        images = shown[start : start + size]
        expected, found = asking.predict(whole, images), answer.model(images)
        if found.shape != expected.shape:
            raise ValueError(f"the file gives {list(found.shape)} for logits {list(expected.shape)}")
        difference, scale = float((found - expected).abs().max()), max(1.0, float(expected.abs().max()))
        if not difference <= accepted * scale:
            raise ValueError(
                f"the exported {describe(whole.model)} gives other answers than PyTorch: logits differ by up to "
                f"{difference:.2g} in a batch of {len(images)}, and {accepted * scale:.2g} is accepted"
            )
        largest, start = max(largest, difference), start + size
    return largest


def _about(whole: Prepared, data: Dataset, shown: Tensor) -> dict[str, Any]:
    """What the file's metadata say before anything was measured."""
    prepare = whole.prepare
    known = isinstance(prepare, Normaliser)
    card = {
        "model": describe(whole.model),
        "parameters": count_parameters(whole.model),
        "data": data.name,
        "source": data.source,
        "preparation": {"mean": list(prepare.mean), "std": list(prepare.std)} if known else type(prepare).__name__,
        "versions": versions(),
    }
    image = {"shape": list(shown.shape[1:]), "dtype": str(shown.numpy().dtype)}
    return {"classes": list(whole.classes), "input": image, "card": card}


def _first_line(error: BaseException) -> str:
    """The most telling line of an error: of its cause, if it has one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
