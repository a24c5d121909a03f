"""Teachers that come with the library: trained by its own loop, checked before they are used.

Each is a safetensors file in ``kdlib/teachers/`` with a model card, which says how it was trained, on which data, and
how good it is. Nothing is downloaded, and nothing is unpickled.
"""

import hashlib
from pathlib import Path

from kdlib.data import Dataset
from kdlib.teachers.sentences import SentenceEncoder, minilm
from kdlib.training import Fitted, check_unseen, load_fitted

__all__ = ["CHECKSUMS", "FOLDER", "SentenceEncoder", "minilm", "pretrained"]

FOLDER = Path(__file__).parent

CHECKSUMS = {
    "cifar10-resnet": "8f3131104254725b5cd77086d9ff9e7251c56feb5475e1b29a2c193da0e8b7ba",
    "cifar10-resnet-mirrored": "0843919f18063d1e4c222988320138b0013f203aeb17c1ff1fac3460da8c3354",
    "cifar10-resnet-small": "8707454000798a5ed0620874d2e922534b84b86167d7940deb94c0361f396e11",
    "mnist-resnet": "7293665339be221b716fdd75c3e428080e73739260d30d269f8d2d9993e35d25",
    "python-source-gpt": "0efe472ab61d1c36769854adfb638f0c7418f6ad560519913f1270f26a0bd473",
}
"""SHA-256 of each teacher's file, by name."""


def pretrained(name: str, data: Dataset) -> Fitted:
    """Load a teacher that may be used and evaluated on these data.

    Args:
        name: one of :data:`CHECKSUMS`.
        data: the data set it is used with.

    Returns:
        The teacher as :func:`kdlib.fit` left it, with history and record.

    Raises:
        ValueError: the name is unknown; the file is not the one that came with the library; test images of ``data`` are
            among the teacher's training images; the data have other classes.
        FileNotFoundError: the file is missing from the installation.
    """
    if name not in CHECKSUMS:
        raise ValueError(f"there is no teacher {name!r}; known teachers: {', '.join(CHECKSUMS)}")
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing from the installation of kdlib: install kdlib again")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != CHECKSUMS[name]:
        raise ValueError(
            f"{path.name} is not the file kdlib came with (SHA-256 {digest[:12]}…, expected {CHECKSUMS[name][:12]}…): "
            f"it was changed or damaged; install kdlib again, or use kdlib.load_fitted for a file you trust"
        )
    fitted = load_fitted(path, checked_already=True)
    run = fitted.record["run"]
    if tuple(run["classes"]) != data.classes:
        raise ValueError(
            f"{name} has the classes {', '.join(run['classes'])}; these data have {', '.join(data.classes)}: its "
            f"answers would be about other classes. Train a teacher on these data"
        )
    check_unseen(fitted, data)
    return fitted
