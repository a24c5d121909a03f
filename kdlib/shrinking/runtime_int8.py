"""Eight bits for use: ONNX Runtime's quantiser, and a choice among its kinds by what this processor does with them."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from kdlib.data import Dataset, Split
from kdlib.extras import need
from kdlib.files import temporary_name
from kdlib.judging import metrics, predictions
from kdlib.judging.runtimes import latencies, onnx_model
from kdlib.shrinking.quantising import calibration_inputs

STATIC = {"static, inputs of layers unsigned": "QUInt8", "static, inputs of layers signed": "QInt8"}
"""Kinds with a grid for each layer's inputs, chosen by training images; they differ in the type of those inputs."""

DYNAMIC = "dynamic, inputs of layers measured in use"
"""The kind that chooses grids of inputs anew for every batch; for linear nets only, since convolutions get slow."""


def quantised(path: Path, data: Dataset, labelled: Split | None, errors: int, most_lost: float) -> list[dict]:
    """Replace a float ONNX file by the fastest of its int8 versions that loses no more than is allowed.

    Weights are int8, with a grid per output channel, and stand between pairs of quantising and dequantising operations
    (QDQ), which ONNX Runtime fuses. Which type of inputs is faster depends on net and processor, so it is measured.

    Args:
        path: of the float file.
        data: its training images calibrate.
        labelled: validation samples, all labelled.
        errors: of the float file on them.
        most_lost: points of accuracy that may be lost.

    Returns:
        One dict a kind that was tried: ``kind``, ``errors``, ``ms`` (median for 64 images, one thread), ``bytes``,
        ``kept``.

    Raises:
        ValueError: there are no labelled validation samples; too few training images; each kind loses more.
    """
    if labelled is None:
        raise ValueError("int8 needs validation images with labels, to see what it costs: this data set has none")
    images = calibration_inputs(data)
    kinds = [*STATIC] + ([] if _has_convolutions(path) else [DYNAMIC])
    folder = temporary_name(path)
    folder.mkdir()
    try:
        files = {kind: folder / f"{number}.onnx" for number, kind in enumerate(kinds)}
        rows = []
        for kind, file in files.items():
            _quantise(path, file, kind, images)
            wrong = metrics.errors(predictions(onnx_model(file), labelled, classes=data.classes))
            rows.append({"kind": kind, "errors": wrong, "bytes": file.stat().st_size, "kept": False})
        timed = latencies(files, labelled.inputs[:64], batches=(64,), threads=(1,)).set_index("model")["ms"]
        for row in rows:
            row["ms"] = float(timed[row["kind"]])
        allowed = [row for row in rows if row["errors"] - errors <= most_lost / 100 * len(labelled)]
        if not allowed:
            found = ", ".join(f"{row['errors']} ({row['kind']})" for row in rows)
            raise ValueError(
                f"int8 costs too much: {errors} errors of {len(labelled):,} validation images in float, and in int8 "
                f"{found}; {most_lost:g} points may be lost"
            )
        kept = min(allowed, key=lambda row: row["ms"])
        kept["kept"] = True
        shutil.copyfile(files[kept["kind"]], path)
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_convolutions(path: Path) -> bool:
    graph = need("onnx", "exporting").load(path).graph
    return any(node.op_type == "Conv" for node in graph.node)


def _quantise(path: Path, to: Path, kind: str, images: Tensor) -> None:
    need("onnxruntime", "exporting")
    from onnxruntime import quantization

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a pre-processing that fails on some nets and changes nothing here
    try:
        if kind == DYNAMIC:
            quantization.quantize_dynamic(path, to, per_channel=True, weight_type=quantization.QuantType.QInt8)
            return
        quantization.quantize_static(
            os.fspath(path),
            os.fspath(to),
            _Reader(images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType[STATIC[kind]],
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        root.setLevel(level)


class _Reader:
    """What ONNX Runtime's quantiser reads calibration images from, in batches of 64."""

    def __init__(self, images: Tensor) -> None:
        self.batches: Iterator[np.ndarray] = iter([part.numpy() for part in images.split(64)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, or None."""
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.get_next, None)
