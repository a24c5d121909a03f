"""The CIFAR-10 teacher to 94 % on a GPU: in how many seconds. Needs a CUDA device and the real CIFAR-10.

python benchmarks/gpu.py
"""

import time
from functools import partial
from pathlib import Path

import torch

import kdlib
from kdlib import models
from kdlib.models.asking import predict

TARGET, WIDTH, LENGTHS = 0.94, 64, (10, 14, 20, 30, 50)


def accuracy_and_seconds(data: kdlib.Dataset, width: int, epochs: int, device: str) -> tuple[float, float]:
    """Test accuracy of a residual net after so many epochs, and the seconds of its whole run."""
    started = time.perf_counter()
    fitted = kdlib.fit(
        models.resnet9(width=width),
        data,
        partial(kdlib.losses.cross_entropy, label_smoothing=0.1),
        epochs=epochs,
        batch_size=512,
        optimizer=partial(torch.optim.SGD, lr=0.4, momentum=0.9, weight_decay=5e-4, nesterov=True),
        augment=[kdlib.flip, kdlib.shifted_crop, kdlib.cutout],
        device=device,
        progress=False,
    )
    seconds = time.perf_counter() - started
    answers = predict(fitted, data.test.inputs)
    return float((answers.argmax(1) == data.test.targets).float().mean()), seconds


def reached(data: kdlib.Dataset, target: float, width: int, lengths: tuple[int, ...], device: str) -> list[str]:
    """Rows of a table: longer and longer runs, each from the start, until one reaches the target."""
    rows = []
    for epochs in lengths:
        accuracy, seconds = accuracy_and_seconds(data, width, epochs, device)
        rows.append(f"| {epochs} | {seconds:.1f} | {accuracy:.2%} |")
        if accuracy >= target:
            break
    return rows


def write() -> None:
    from machines import Start

    data = kdlib.load("cifar10", verbose=False)
    if not torch.cuda.is_available() or data.source != "full":
        raise SystemExit("this needs a CUDA device, and the real CIFAR-10 (KDLIB_DATA)")
    start = Start("python benchmarks/gpu.py")
    rows = reached(data, TARGET, WIDTH, LENGTHS, "cuda")
    text = (
        f"# A CIFAR-10 teacher to {TARGET:.0%}\n\n{torch.cuda.get_device_name()}. {start.about()}\n\nresnet9(width="
        f"{WIDTH}), the training images without the validation ones, batches of 512; each row is a run of its own.\n\n"
        "| epochs | seconds | test accuracy |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )
    (Path(__file__).parent / "gpu.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    write()
