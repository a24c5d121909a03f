"""Sequence-level distillation: a data set of texts that the teacher wrote, to be learned like any other."""

from dataclasses import replace
from typing import Any

import torch

from kdlib.data import Dataset
from kdlib.data.text import continued
from kdlib.losses import IGNORED
from kdlib.models import asking, generate
from kdlib.models.asking import module_of
from kdlib.objectives.teacher_answers import describe
from kdlib.randomness import stream_seed

AT_ONCE = 256
"""Texts that are written at once."""


def sequence_level(teacher: Any, data: Dataset, prompt: int, *, temperature: float = 1.0, seed: int = 0) -> Dataset:
    """A data set whose training texts are continued by a teacher after their first tokens (Kim and Rush 2016, 3.2).

    A student learns it from labels, by cross-entropy: no divergence, and no teacher any more. Only the continuation is
    learned. Drawn at temperature 1, the loss is on average that of the teacher's distribution over texts; Kim and Rush
    take its most probable text, which ``temperature=0`` approaches token by token.

    Args:
        teacher: a module or a result of :func:`kdlib.fit`, from token ids [n, L] to logits [n, L, C].
        data: texts as :func:`kdlib.data.text.windows` makes them; validation and test stay what they are.
        prompt: tokens of each training text that are kept, from 1 to L. Texts that end within are left out.
        temperature: of the drawing.
        seed: of the draws.

    Returns:
        A data set with the source ``"own"``: what the teacher writes is not what the data were.

    Raises:
        TypeError: the teacher is no module.
        ValueError: the data are no token ids; prompt is out of range; no text is as long as it.
    """
    model = module_of(teacher, "a teacher that writes")
    inputs, targets = data.train.inputs, data.train.targets
    if data.task != "sequences" or not isinstance(inputs, torch.Tensor) or inputs.dtype != torch.int64:
        raise ValueError("a teacher continues token ids [N, L], such as kdlib.data.text.windows makes")
    length = inputs.shape[1]
    if not isinstance(prompt, int) or not 1 <= prompt <= length:
        raise ValueError(f"prompt must be a whole number from 1 to {length}, the length of the texts, not {prompt!r}")
    prompts = inputs[(targets[:, : prompt - 1] != IGNORED).all(dim=1), :prompt]
    if not len(prompts):
        raise ValueError(f"no training text has {prompt} tokens: use a shorter prompt")
    device, written = asking.device_of(model), []
    for number, some in enumerate(prompts.split(AT_ONCE)):
        drawn = stream_seed("written", seed, number)
        new = generate(model, some.to(device), length - prompt + 1, temperature=temperature, seed=drawn)
        written.append(new.cpu())
    texts = continued(prompts, torch.cat(written))
    options = {"validation": None, "classes": data.classes, "task": "sequences", "name": f"{data.name}, written"}
    made = Dataset.from_tensors(*texts, **options)
    detail = f"{data.detail}, continued by {describe(teacher)['teacher']}"
    return replace(made, validation=data.validation, test=data.test, mean=data.mean, std=data.std, detail=detail)
