"""The study of lesson 10a: a bag of pieces learns a real encoder's vectors, and what is cheap already stands beside it.

Every arm that learns is tried at the same four learning rates, chosen on validation by the neighbours kept, then
reported on test with five other seeds. A seed is that of initial weights, order, and choice of texts where not all are
read. Each report has its values text by text, so that arms can be compared on the same texts.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from statistics import median
from typing import Any, NamedTuple

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor
from torch.nn import functional as F

from kdcourse import sentences
from kdcourse.studies.ledger import Ledger
from kdlib import losses, models
from kdlib.data import Dataset
from kdlib.data.text import pieces
from kdlib.extras import need
from kdlib.models.asking import evaluating
from kdlib.training import adamw, fit

COSTED = ("MiniLM", "Model2Vec", "TF-IDF, words", "TF-IDF, letters", "small student", "student")
PRECISION, BATCH, TRIAL_SEED = "float32", 64, 250
RATES = (1e-3, 3e-3, 1e-2, 3e-2)

Encode = Callable[[tuple[str, ...]], Tensor]
"""Texts to vectors [n, D]."""


class Way(NamedTuple):
    """How a student learns: its loss, how many texts and which, epochs, numbers in a row, rows, whose answers."""

    loss: Callable[[Tensor, Tensor], Tensor] = losses.features.cosine_loss
    texts: int = 0
    kind: str = "descriptions"
    epochs: int = 20
    width: int = 128
    buckets: int = 2**14
    answers: str = "own"


WAYS = {
    "student": Way(),
    "1,590 texts": Way(texts=1_590),
    "1,590 texts, as many steps": Way(texts=1_590, epochs=74),
    "400 texts": Way(texts=400, epochs=80),
    "1,590 others": Way(texts=1_590, kind="others"),
    "squared error": Way(losses.features.embedding_error),
    "relations": Way(losses.features.similarity_preserving),
    "exchanged answers": Way(answers="exchanged"),
    "small student": Way(width=64, buckets=2**13),
}
"""The arms that learn. All 5,904 texts are read where no number is given: 1,590 descriptions, then 4,314 others."""


class Scale(NamedTuple):
    """Arms, reported seeds, a factor of the epochs, and whether the extra's models take part."""

    ways: tuple[str, ...]
    seeds: tuple[int, ...]
    shorter: int
    extra: bool


FULL = Scale(tuple(WAYS), (251, 252, 253, 254, 255), 1, True)
QUICK = Scale(("1,590 texts", "exchanged answers"), (251,), 20, False)


def training_texts() -> tuple[str, ...]:
    """All texts that a student may read: descriptions, then the others."""
    return sentences.described("train").texts + sentences.others()


def training_answers() -> Tensor:
    """The encoder's answers about :func:`training_texts`, [5904, 384]."""
    found = sentences.answers()
    return torch.cat((found["train texts"], found["others"]))


@cache
def taught(way: Way, rate: float, seed: int) -> tuple[Encode, dict]:
    """A student, and what it cost: CPU seconds of training, bytes as float16."""
    texts, wanted = training_texts(), training_answers()
    draws = torch.Generator().manual_seed(seed)
    if way.texts:
        first, last = (0, 1_590) if way.kind == "descriptions" else (1_590, len(texts))
        read = first + torch.randperm(last - first, generator=draws)[: way.texts]
        texts, wanted = [texts[place] for place in read.tolist()], wanted[read]
    if way.answers == "exchanged":
        wanted = wanted[torch.randperm(len(wanted), generator=draws)]
    net = models.bag_encoder(width=way.width, buckets=way.buckets, seed=seed)
    data = Dataset.from_tensors(pieces(texts, way.buckets), wanted, name="sentences", validation=None)
    settings = {"epochs": way.epochs, "batch_size": BATCH, "seed": seed, "precision": PRECISION, "progress": False}
    started = time.process_time()
    fit(net, data, way.loss, optimizer=partial(adamw, lr=rate), **settings)
    cpu = round(time.process_time() - started, 2)
    return partial(encode, net, way.buckets), {"cpu": cpu, "bytes": 2 * models.count_parameters(net)}


def encode(net: torch.nn.Module, buckets: int, texts: tuple[str, ...]) -> Tensor:
    """A student's vectors."""
    with evaluating(net), torch.no_grad():
        return net(pieces(texts, buckets))


def judged(encoder: Encode, part: str) -> dict:
    """The neighbours kept, of ten; the rank at which each name finds its text; whether the nearest text is from the
    same module. Each is a list with one number per text; means of the three stand beside them."""
    rows = sentences.described(part)
    vectors, queries = encoder(rows.texts), encoder(rows.names)
    kept = sentences.kept(vectors, sentences.answers()[f"{part} texts"])
    ranks = sentences.ranks(queries, vectors)
    nearest = sentences.cosines(vectors, vectors).fill_diagonal_(-2).argmax(dim=1).tolist()
    same = [rows.modules[one] == own for one, own in zip(nearest, rows.modules, strict=True)]
    return {
        "kept": round(float(kept.mean()), 4),
        "search": round(float((1 / ranks).mean()), 4),
        "module": round(sum(same) / len(same), 4),
        "kept_each": (sentences.NEAREST * kept).round().int().tolist(),
        "ranks": ranks.tolist(),
        "same_module": [int(one) for one in same],
    }


def whole(table: dict) -> dict:
    """The means alone, for trials."""
    return {key: value for key, value in table.items() if not isinstance(value, list)}


# --- what needs no student -----------------------------------------------------------------------
KINDS = {
    "words": {},
    "letters": {"analyzer": "char_wb", "ngram_range": (3, 5)},
    "student's pieces": {"analyzer": lambda text: pieces([text])[0].tolist()},
}
"""What TF-IDF counts: words, rows of three to five letters, or exactly what a student reads."""


@cache
def counts(kind: str, part: str) -> TfidfVectorizer:
    """TF-IDF whose weights come from the training texts and from those that are searched, as in a search engine."""
    return TfidfVectorizer(sublinear_tf=True, **KINDS[kind]).fit(training_texts() + sentences.described(part).texts)


def counting(kind: str, part: str = "test") -> Encode:
    """:func:`counts` as vectors, one number for each term."""
    return lambda texts: torch.from_numpy(counts(kind, part).transform(texts).toarray()).float()


def together(one: Encode, other: Encode) -> Encode:
    """Two encoders as one, whose cosines are the means of theirs."""
    return lambda texts: torch.cat([F.normalize(each(texts), dim=1) for each in (one, other)], dim=1)


def untrained(seed: int) -> Encode:
    """A student that nobody taught; the bias of its last layer is taken off, which all texts share."""
    net = models.bag_encoder(seed=seed)
    torch.nn.init.zeros_(net.out.bias)
    return partial(encode, net, WAYS["student"].buckets)


def stored(part: str) -> Encode:
    """The encoder itself, as it answered."""
    rows, found = sentences.described(part), sentences.answers()
    tables = {rows.texts: found[f"{part} texts"], rows.names: found[f"{part} names"]}
    return tables.__getitem__


def principal(part: str, numbers: int) -> Encode:
    """The encoder's answers in fewer numbers: the first principal components of those about the training texts."""
    known, own = training_answers(), stored(part)
    mean = known.mean(dim=0)
    directions = torch.linalg.svd(known - mean, full_matrices=False).Vh[:numbers]
    return lambda texts: (own(texts) - mean) @ directions.T


def token_table(numbers: int) -> Encode:
    """The mean of the encoder's own token embeddings, the first principal components of the table; no layer of it."""
    from kdlib.teachers import minilm

    encoder = minilm()
    table = encoder.model.get_input_embeddings().weight.detach()
    table = table - table.mean(dim=0)
    table = table @ torch.linalg.svd(table, full_matrices=False).Vh[:numbers].T

    def mean(texts: tuple[str, ...]) -> Tensor:
        rows = [table[torch.tensor(one.ids)[torch.tensor(one.special_tokens_mask) == 0]] for one in read(texts)]
        return torch.stack([row.mean(dim=0) if len(row) else torch.zeros(numbers) for row in rows])

    def read(texts: tuple[str, ...]) -> list:
        return encoder.tokenizer.encode_batch(list(texts))

    return mean


@cache
def model2vec(numbers: int) -> Any:
    """Model2Vec: each token alone through the encoder, principal components, weights by rank (Tulkens and others)."""
    need("model2vec", "the study encoder", "encoder")
    from model2vec.distill import distill_from_model
    from transformers import PreTrainedTokenizerFast

    from kdlib.teachers import minilm

    encoder = minilm()
    names = {f"{key}_token": f"[{key.upper()}]" for key in ("unk", "sep", "pad", "cls", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=encoder.tokenizer, **names)
    return distill_from_model(model=encoder.model, tokenizer=tokenizer, pca_dims=numbers)


# --- what it costs -------------------------------------------------------------------------------
def milliseconds(encoders: Mapping[str, Callable[[tuple[str, ...]], object]], rounds: int = 5) -> dict[str, float]:
    """Milliseconds a test text, all 213 at once; the median of several rounds in which each has its turn."""
    texts = sentences.described("test").texts
    found: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds):
        for name, encoder in encoders.items():
            started = time.perf_counter()
            encoder(texts)
            found[name].append(1_000 * (time.perf_counter() - started) / len(texts))
    return {name: median(times) for name, times in found.items()}


@cache
def costs() -> dict[str, dict]:
    """Milliseconds a text, and bytes of what has to be stored: numbers as float16; of TF-IDF, its terms as well."""
    from kdlib.teachers import minilm

    encoder, static = minilm(), model2vec(256)
    encoders: dict[str, Callable] = {"MiniLM": encoder, "Model2Vec": lambda texts: static.encode(list(texts))}
    stored_bytes = {"MiniLM": 2 * models.count_parameters(encoder.model), "Model2Vec": 2 * static.embedding.size}
    for kind in ("words", "letters"):
        counter = counts(kind, "test")
        encoders[f"TF-IDF, {kind}"] = counter.transform
        stored_bytes[f"TF-IDF, {kind}"] = sum(len(term.encode()) + 2 for term in counter.get_feature_names_out())
    for name in ("small student", "student"):
        net = models.bag_encoder(width=WAYS[name].width, buckets=WAYS[name].buckets)
        encoders[name] = partial(encode, net, WAYS[name].buckets)
        stored_bytes[name] = 2 * models.count_parameters(net)
    times = milliseconds(encoders)
    return {name: {"ms": round(times[name], 4), "bytes": int(stored_bytes[name])} for name in encoders}


def study(scale: Scale, ledger: Ledger, data: Dataset) -> None:
    """All arms: those that learn nothing here, then those that do."""
    fixed: dict[str, Callable[[str], Encode]] = {
        "MiniLM": stored,
        "its PCA, 64 numbers": partial(principal, numbers=64),
        **{f"TF-IDF, {kind}": partial(counting, kind) for kind in KINDS},
    }
    if scale.extra:
        fixed["its token table"] = lambda part: token_table(256)
        fixed["Model2Vec"] = lambda part: lambda texts: torch.from_numpy(model2vec(256).encode(list(texts)))
    for name, make in fixed.items():
        ledger.row({"phase": "report", "arm": name, "seed": 0}, lambda make=make: judged(make("test"), "test"))

    def by_seed(arm: str, make: Callable[[int], Encode]) -> None:
        for seed in scale.seeds:
            ledger.row({"phase": "report", "arm": arm, "seed": seed}, lambda seed=seed: judged(make(seed), "test"))

    letters = counting("letters")
    by_seed("untrained student", untrained)
    by_seed("untrained and letters", lambda seed: together(untrained(seed), letters))

    def run(name: str, rate: float, seed: int, part: str) -> dict:
        way = WAYS[name]._replace(epochs=-(-WAYS[name].epochs // scale.shorter))
        encoder, cost = taught(way, rate, seed)
        found = judged(encoder, part)
        return cost | (found if part == "test" else whole(found))

    best: dict[str, float] = {}
    for name in scale.ways:
        tried = [
            ledger.row(
                {"phase": "trial", "arm": name, "rate": rate, "seed": TRIAL_SEED},
                partial(run, name, rate, TRIAL_SEED, "validation"),
            )
            for rate in RATES
        ]
        best[name] = max(tried, key=lambda row: row["kept"])["rate"]
        for seed in scale.seeds:
            settings = {"phase": "report", "arm": name, "rate": best[name], "seed": seed}
            ledger.row(settings, partial(run, name, best[name], seed, "test"))
    if "student" in best:
        way, rate = WAYS["student"], best["student"]
        by_seed("student and letters", lambda seed: together(taught(way, rate, seed)[0], letters))
    if scale.extra:
        for name in COSTED:
            ledger.row({"phase": "cost", "arm": name}, lambda name=name: costs()[name])
