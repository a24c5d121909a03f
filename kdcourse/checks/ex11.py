"""Exercise 11, distilling a prompt: its parts, their inputs, and the mistakes they recognise."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdcourse.checks import trying
from kdcourse.checks.part import Part, switched, telling
from kdcourse.checks.trying import Case


# --- find the bugs: a saving without its control -------------------------------------------------
def _saving_cases(generator: torch.Generator) -> list[Case]:
    def answers(teacher: Tensor, shares: Tensor, kept: float) -> Tensor:
        """Those of a model that gives the teacher's answer this often, and else one by frequency."""
        others = shares.multinomial(len(teacher), replacement=True, generator=generator)
        return torch.where(torch.rand(len(teacher), generator=generator) < kept, teacher, others)

    def case(samples: int, classes: int, kept: float, foreign: float, cached: bool = False) -> Case:
        shares = torch.rand(classes, generator=generator) ** 2 + 0.05
        teacher = shares.multinomial(samples, replacement=True, generator=generator)
        prompt, request = (int(torch.randint(*ends, (1,), generator=generator)) for ends in ((20, 400), (5, 40)))
        return {
            "teacher": teacher,
            "student": answers(teacher, shares, kept),
            "foreign": answers(teacher, shares, foreign),
            "practice": shares.multinomial(30, replacement=True, generator=generator),
            "prompt": prompt,
            "request": request,
            "read": int(torch.randint(500, 5_000, (1,), generator=generator)),
            "cached": cached,
        }

    def told_apart(*options: dict[str, Any], **settings: Any) -> Case:
        def clear() -> Case:
            while True:
                found = case(60, 5, **settings)
                two = found["practice"].bincount(minlength=5).topk(2).values
                if two[0] > two[1]:
                    return found

        return telling(clear, _saved, *options, pairwise=True)

    example = {
        "teacher": torch.tensor([0, 0, 1, 2, 0, 1, 0, 2]),
        "student": torch.tensor([0, 0, 1, 2, 0, 0, 0, 2]),
        "foreign": torch.tensor([2, 1, 1, 0, 0, 2, 1, 1]),
        "practice": torch.tensor([0, 1, 0, 0, 2]),
        "prompt": 50,
        "request": 10,
        "read": 400,
        "cached": False,
    }
    return [
        example,
        told_apart({"controls": "foreign"}, {"constant": "test"}, {"constant": "student"}, kept=0.7, foreign=0.0),
        told_apart({"controls": "constant"}, {"of": "student"}, kept=0.8, foreign=0.6),
        told_apart({"controls": "mean"}, kept=0.6, foreign=0.3, cached=True),
        told_apart({"controls": "both"}, {"ends": "floor"}, kept=0.4, foreign=0.7),
    ]


def _saved(
    teacher: Tensor, student: Tensor, foreign: Tensor, practice: Tensor, prompt: int, request: int, read: int,
    cached: bool, *, controls: str = "larger", constant: str = "practice", of: str = "teacher", each: str = "prompt",
    asked: str = "with prompt", passes: int = 3, ends: str = "ceil", cache: str = "never", share: str = "beyond"
) -> tuple[float, float]:  # fmt: skip
    """Kept beyond the controls, and requests until it is paid for; each option changes something."""

    def alike(one: Tensor, other: Tensor) -> float:
        return (one == other).float().mean().item()

    most = {"practice": practice, "test": teacher, "student": student}[constant].mode().values
    found = alike(teacher, most), alike({"teacher": teacher, "student": student}[of], foreign)
    floor = {
        "larger": max(found),
        "smaller": min(found),
        "mean": sum(found) / 2,
        "both": sum(found),
        "constant": found[0],
        "foreign": found[1],
        "none": 0.0,
    }[controls]
    kept = (alike(student, teacher) - floor) / (1 - floor if share == "of the rest" else 1)
    teaching = len(practice) * {"with prompt": prompt + request, "prompt": prompt, "without": request, "no": 0}[asked]
    saved = {"prompt": prompt, "request": request, "all": prompt + request}[each]
    after = (teaching + passes * read) / (request if cached and cache == "server's" else saved)
    after = {"ceil": math.ceil(after), "floor": math.floor(after), "next": math.floor(after) + 1, "real": after}[ends]
    return kept, {"never": math.inf, "at once": 0, "ignored": after, "server's": after}[cache] if cached else after


_UNMENDED = (
    ({"controls": "none"},
     "nothing is taken off for the controls: the share kept is that of the agreement. What does one constant answer "
     "reach, and what another prompt's student?"),
    ({"asked": "no"}, "the teacher's tokens are not counted: it has read each practice request, with the prompt."),
    ({"passes": 1}, {"passes": 2},
     "a training token counts three times: once on the way forward, twice on the way back."),
    ({"cache": "ignored"},
     "a prompt in the cache is not read anew: then a request saves no token, and nothing is ever paid for."),
)  # fmt: skip
"""What is wrong with the program that is shown; some or all of it may be left."""

honest_saving = Part(
    "honest_saving", _saving_cases, _saved, "lesson 11, section 1",
    use=trying.figures, tolerance=1e-4,
    mistakes=(
        *switched(_saved, *_UNMENDED, most=4),
        *switched(
            _saved,
            *_UNMENDED,
            ({"controls": "constant"},
             "the other prompt's student is left out. The larger of the two shares is taken off."),
            ({"controls": "foreign"}, "the constant answer is left out. The larger of the two shares is taken off."),
            ({"controls": "smaller"}, "the *smaller* share of the two controls is taken off. Take the larger."),
            ({"controls": "mean"}, {"controls": "both"},
             "the two controls are put together. Each is a way to have answers without this prompt: take off the "
             "larger share."),
            ({"constant": "test"}, {"constant": "student"},
             "the constant answer comes from the *test*: it is chosen with the answers that judge it. Take the "
             "teacher's most frequent answer in `practice`."),
            ({"of": "student"},
             "the other prompt's student is compared with our *student*. Compare both with the teacher."),
            ({"share": "of the rest"},
             "the share kept is divided by what the controls leave. Return the difference itself."),
            ({"asked": "without"},
             "the teacher reads the practice requests *with the prompt*: that is where its answers come from."),
            ({"asked": "prompt"}, "the teacher reads each practice request, too, after the prompt: its tokens count."),
            ({"each": "all"}, {"each": "all", "cache": "server's"},
             "the student still reads the request. A request saves the prompt's tokens alone."),
            ({"each": "request"}, "a request saves the tokens of the *prompt*, and not its own."),
            ({"cache": "at once"}, "where no token is saved, nothing is ever paid for: return `math.inf`."),
            ({"ends": "floor"}, {"ends": "next"}, {"ends": "real"},
             "the number of requests is the smallest whole one with which the tokens saved are *no fewer* than those "
             "spent: round up, and an exact quotient stays as it is."),
            most=3,
        ),
    ),
)  # fmt: skip


# --- find the bugs: the teacher's positions ------------------------------------------------------
def _position_cases(generator: torch.Generator) -> list[Case]:
    def case(classes: int, prompts: list[int], requests: list[int]) -> Case:
        count, longest = len(prompts), max(map(sum, zip(prompts, requests, strict=True)))
        return {
            "student_logits": torch.randn(count, max(requests), classes, generator=generator),
            "teacher_logits": 2 * torch.randn(count, longest, classes, generator=generator),
            "prompt_lengths": torch.tensor(prompts),
            "request_lengths": torch.tensor(requests),
        }

    def lengths(count: int, low: int, high: int) -> list[int]:
        return torch.randint(low, high, (count,), generator=generator).tolist()

    return [
        case(3, [2, 1], [1, 2]),
        case(4, [3, 5, 1], [2, 2, 2]),
        case(5, [2, 2, 2, 2], [4, 1, 3, 2]),
        case(8, lengths(6, 1, 7), lengths(6, 1, 5)),
    ]


def _distilled(
    student_logits: Tensor, teacher_logits: Tensor, prompt_lengths: Tensor, request_lengths: Tensor, *,
    start: str = "own", counted: str = "requests", over: str = "tokens", loss: str = "forward"
) -> Tensor:  # fmt: skip
    """The loss; each option changes something."""
    (count, width, _), longest = student_logits.shape, teacher_logits.shape[1]
    own, steps = prompt_lengths[:, None], torch.arange(width)
    places = {
        "own": own + steps,
        "before": (own + steps - 1).clamp(min=0),
        "after": own + steps + 1,
        "first": (steps + 0 * own),
        "last": longest - width + steps + 0 * own,
        "longest": prompt_lengths.max() + steps + 0 * own,
        "first row's": prompt_lengths[0] + steps + 0 * own,
    }[start].clamp(max=longest - 1)
    p = teacher_logits[torch.arange(count)[:, None], places].log_softmax(-1)
    q = student_logits.log_softmax(-1)
    each = {
        "forward": (p.exp() * (p - q)).sum(-1),
        "reverse": (q.exp() * (q - p)).sum(-1),
        "cross-entropy": -(p.exp() * q).sum(-1),
        "hard": -q.gather(-1, p.argmax(-1, keepdim=True))[..., 0],
        "over classes": (p.exp() * (p - q)).mean(-1),
    }[loss]
    last = {"requests": request_lengths, "all": 0 * request_lengths + width, "prompts": prompt_lengths}[counted]
    real = steps < last[:, None]
    each = torch.where(real, each, torch.zeros(()))
    if over == "rows":
        return (each.sum(dim=1) / real.sum(dim=1)).mean()
    return each.sum() / {"tokens": real.sum(), "places": count * width, "batch": count, "nothing": 1}[over]


mended_distillation = Part(
    "mended_distillation", _position_cases, _distilled, "lesson 11, section 1",
    use=trying.differentiated, tolerance=1e-4,
    mistakes=switched(
        _distilled,
        ({"start": "last"},
         "the teacher's logits are still taken from the end of each row, where shorter rows have padding. A row's "
         "request begins where its own prompt ends."),
        ({"start": "first"},
         "the teacher's logits are taken from the beginning of each row: they are about the prompt's tokens. A row's "
         "request begins where its own prompt ends."),
        ({"start": "longest"}, {"start": "first row's"},
         "one prompt length is used for all rows. Each row has its own."),
        ({"start": "before"},
         "the teacher's logits are those of one position too early. Positions count from 0: with a prompt of `p` "
         "tokens the request's first token has position `p`."),
        ({"start": "after"},
         "the teacher's logits are those of one position too late. Positions count from 0: with a prompt of `p` "
         "tokens the request's first token has position `p`."),
        ({"counted": "all"}, "padding is counted: positions at and after a row's `request_lengths` are no requests."),
        ({"counted": "prompts"}, "the *prompt's* length says which positions count. The request's does."),
        ({"over": "places"},
         "padding adds nothing, and is divided by all the same: divide by the number of request tokens."),
        ({"over": "rows"},
         "this is a mean over rows of each row's mean: a token in a short request weighs more than in a long one. "
         "Take one mean over all request tokens."),
        ({"over": "batch"},
         "the loss is divided by the number of rows, as `reduction=\"batchmean\"` does to a batch of sequences. "
         "Divide by the number of request tokens."),
        ({"over": "nothing"}, "this is a sum over the request tokens. Divide by their number."),
        ({"loss": "reverse"}, "the two arguments of the divergence are exchanged: the teacher comes first."),
        ({"loss": "cross-entropy"}, "this is the cross-entropy: a student that agrees with its teacher would not have "
                                    "0. Take off the teacher's own entropy."),
        ({"loss": "hard"}, "the student learns the teacher's most probable answers. Use all of its probabilities."),
        ({"loss": "over classes"}, "the divergence is divided by the number of classes, too: add over the classes."),
        most=3,
    ),
)  # fmt: skip


# --- find the bug: a soft prompt that moves the frozen model -------------------------------------
def _vector_cases(generator: torch.Generator) -> list[Case]:
    def case(tokens: int, width: int, count: int, texts: int, length: int, steps: int, lr: float) -> Case:
        return {
            "table": torch.randn(tokens, width, generator=generator),
            "count": count,
            "ids": torch.randint(tokens, (texts, length), generator=generator),
            "targets": (2 * torch.randn(texts, tokens, generator=generator)).softmax(dim=1),
            "steps": steps,
            "lr": lr,
        }

    def told_apart(*settings: Any) -> Case:
        options = {"moves": "below"}, {"kept": True}, {"loss": "hard"}
        return telling(lambda: case(*settings), _learned, *options, pairwise=True)

    return [told_apart(4, 3, 1, 3, 2, 2, 0.3), told_apart(8, 4, 3, 6, 4, 4, 0.2), told_apart(10, 5, 2, 5, 3, 6, 0.5)]


def _answers(table: Tensor, before: Tensor, ids: Tensor) -> Tensor:
    read = torch.cat((before.expand(len(ids), -1, -1), table[ids]), dim=1)
    share = (read @ read[:, -1:].mT / table.shape[1] ** 0.5).softmax(dim=1)
    return (share * read).sum(dim=1) @ table.T


def _learned(
    table: Tensor, count: int, ids: Tensor, targets: Tensor, steps: int, lr: float, *, moves: str = "vectors",
    start: str = "first", kept: bool = False, loss: str = "mean", more: int = 0, by: Callable = torch.optim.SGD
) -> Tensor:  # fmt: skip
    """The vectors after training; each option changes something."""
    table = table.detach().clone().requires_grad_()
    rows = {"first": table[:count], "last": table[-count:], "zeros": torch.zeros_like(table[:count])}[start]
    vectors = rows.detach().clone().requires_grad_()
    aims = F.one_hot(targets.argmax(1), len(table)).float() if loss == "hard" else targets
    learns = {"vectors": [vectors], "below": [vectors], "both": [vectors, table], "table": [table]}[moves]
    optimizer = by(learns, lr=lr)
    for _ in range(steps + more):
        if not kept:
            optimizer.zero_grad()
        cost = F.cross_entropy(_answers(table, vectors, ids), aims)
        (cost * (len(ids) if loss == "sum" else 1)).backward()
        optimizer.step()
        if moves == "below":
            table.data[:count] = vectors.detach()
    return vectors.detach()


mended_vectors = Part(
    "mended_vectors", _vector_cases, _learned, "lesson 11, section 2",
    tolerance=1e-4,
    mistakes=switched(
        _learned,
        ({"moves": "below"},
         "the model's token vectors move along: what is sliced out of a table shares its memory, and an optimizer "
         "changes it in place. Copy what the vectors start from."),
        ({"moves": "both"}, "the model's token vectors are trained, too. It is frozen: the vectors alone learn."),
        ({"moves": "table"},
         "the vectors are where they began. Which tensors does the optimizer hold, and has it made a step?"),
        ({"start": "last"}, {"start": "zeros"}, "the vectors start elsewhere: begin with the first `count` token "
                                                "vectors of the table."),
        ({"kept": True}, "gradients of earlier steps are still there: clear them before each `backward`."),
        ({"loss": "sum"}, "the loss is added over the texts. Take its mean."),
        ({"loss": "hard"}, "the vectors learn the most probable answers. Use all probabilities of `targets`."),
        ({"by": torch.optim.Adam}, {"by": torch.optim.AdamW},
         "the steps are Adam's. Make those of plain gradient descent: `torch.optim.SGD`, without momentum."),
        ({"more": -1}, "this is one step too few."),
        ({"more": 1}, "this is one step too many."),
    ),
)  # fmt: skip


# --- the examination in the prompt ---------------------------------------------------------------
NOUNS = {
    "Straße": "street", "Fuß": "foot", "Fußball": "football", "Haus": "house", "Hausboot": "houseboat",
    "Wasser": "water", "Wasserfall": "waterfall", "Gruß": "greeting", "Floß": "raft", "Maß": "measure",
    "Maßstab": "scale", "Schoß": "lap", "Stein": "stone", "Steinbruch": "quarry",
}  # fmt: skip
"""German nouns; some begin others."""


def _exam_cases(generator: torch.Generator) -> list[Case]:
    nouns = list(NOUNS)

    def below(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    def written(text: str) -> str:
        """In another case, with other whitespace."""
        text = (str, str.upper, str.title, str.casefold)[below(4)](text)
        return "".join((" ", " ", " ", "  ", "\t", "\n")[below(6)] if one == " " else one for one in text)

    def case(items: int, examples: int) -> Case:
        asked = [nouns[place] for place in torch.randperm(len(nouns), generator=generator)[:items].tolist()]
        shown = [nouns[below(len(nouns))] for _ in range(examples)]
        forms = (
            "translate {} = {}", "Q: translate {} A: {}", "translate {}", "{} translate = {}", "translate the {}",
            "{1} please translate",
        )  # fmt: skip
        return {
            "examples": [written(forms[below(len(forms))].format(noun, NOUNS[noun])) for noun in shown],
            "items": [written(f"translate {noun}") + " " * below(3) for noun in asked],
            "right": [below(3) > 0 for _ in asked],
        }

    def told_apart(*options: dict[str, Any]) -> Case:
        while True:
            found = telling(lambda: case(8, 9), _scored, {"score": "all"}, {"score": "leaked"}, *options, pairwise=True)
            if 0 < _scored(**found)[0] < 8:
                return found

    example = {
        "examples": [
            "translate Fußball = football", "translate Haus = house", "TRANSLATE WASSER = water", "TRANSLATE FLOSS",
            "translate  Stein", "translate Maß",
        ],
        "items": [f"translate {noun}" for noun in ("Stein", "Fuß", "Haus", "Floß", "Wasser", "Maß", "Schoß")],
        "right": [False, True, True, False, True, False, False],
    }  # fmt: skip
    apart = {
        "examples": ["Haus translate = house", "please translate", "Maß = measure"],
        "items": ["translate Haus", "translate Maß"],
        "right": [True, False],
    }
    every = {"examples": ["translate Haus = house"], "items": ["TRANSLATE\nHAUS"], "right": [True]}
    return [
        example,
        told_apart({"folded": "lower"}, {"within": "letters"}, {"counted": "examples"}),
        told_apart({"spaces": "as they are"}, {"within": "equal"}, {"folded": "no"}),
        told_apart({"within": "begins"}, {"spaces": "ends"}, {"score": "wrong"}),
        told_apart({"within": "any order"}, {"within": "with gaps"}, {"joined": True}),
        apart,
        every,
    ]


def _scored(
    examples: list[str], items: list[str], right: list[bool], *, folded: str = "casefold", spaces: str = "one",
    within: str = "words", joined: bool = False, counted: str = "items", score: str = "rest", empty: float = math.nan
) -> tuple[int, float]:  # fmt: skip
    """Items that leak, and the score; each option changes something."""

    def normal(text: str) -> str:
        text = {"casefold": text.casefold(), "lower": text.lower(), "no": text}[folded]
        words = text.split()
        return {"one": " ".join(words), "ends": text.strip(), "none": "".join(words), "as they are": text}[spaces]

    def stands(item: str, example: str) -> bool:
        left = iter(example.split())
        return {
            "words": f" {item} " in f" {example} ",
            "letters": item in example,
            "equal": item == example,
            "begins": f"{example} ".startswith(f"{item} "),
            "answered": item == example.split(" =")[0],
            "any order": set(item.split()) <= set(example.split()),
            "with gaps": all(word in left for word in item.split()),
        }[within]

    shown = [normal(example) for example in ([" ".join(examples)] if joined else examples)]
    leaks = [any(stands(normal(item), example) for example in shown) for item in items]
    count = sum(leaks)
    if counted == "examples":
        count = sum(any(stands(normal(item), example) for item in items) for example in shown)
    kept = {"rest": [not leak for leak in leaks], "leaked": leaks}.get(score, [True] * len(items))
    counts = [one and not (score == "wrong" and leak) for one, leak in zip(right, leaks, strict=True)]
    found = [one for one, keep in zip(counts, kept, strict=True) if keep]
    return count, sum(found) / len(found) if found else empty


_OVERLOOKED = (
    ({"folded": "no"}, "capitals and small letters are told apart. `casefold` makes them alike."),
    ({"spaces": "as they are"}, {"spaces": "ends"},
     "one space, several, tabs and line breaks are told apart. `text.split()` cuts at any whitespace; `\" \".join` "
     "puts one space between the words."),
    ({"within": "equal"}, "an example is compared as a whole. It holds an answer, too: look for the item *in* it."),
    ({"score": "all"}, "the score is that of all items. Leave out those that leak."),
)  # fmt: skip
"""What is wrong with the program that is shown; some or all of it may be left."""

fair_score = Part(
    "fair_score", _exam_cases, _scored, "lesson 11, section 4",
    use=trying.figures, tolerance=1e-4,
    mistakes=(
        *switched(_scored, *_OVERLOOKED, most=4),
        *switched(
            _scored,
            *_OVERLOOKED,
            ({"folded": "lower"}, "`lower` leaves ß as it is, and STRASSE has none: `casefold` makes both alike."),
            ({"within": "letters"}, {"within": "letters", "spaces": "none"},
             "an item counts as leaked where it is the beginning of a longer word: \"translate Fuß\" does not stand in "
             "\"translate Fußball\". Compare whole words."),
            ({"within": "begins"}, {"within": "answered"},
             "an item is found only at the beginning of an example. It may stand anywhere in it."),
            ({"within": "any order"}, {"within": "with gaps"},
             "an item counts as leaked wherever its words are. The words stand one after the other, in this order."),
            ({"joined": True},
             "the examples are searched as one text. An item does not leak if it begins in one example and ends in the "
             "next."),
            ({"counted": "examples"}, "this counts examples. Count the items that leak."),
            ({"score": "leaked"}, "the score is that of the items that *leak*. Take the others."),
            ({"score": "wrong"},
             "items that leak are counted as wrong. They say nothing either way: leave them out of the denominator, "
             "too."),
            ({"empty": 0.0}, "if every item leaks, nothing is known: return `math.nan`, not 0."),
            most=3,
        ),
    ),
)  # fmt: skip


# --- equal tokens --------------------------------------------------------------------------------
def _token_cases(generator: torch.Generator) -> list[Case]:
    def scores(seeds: int, texts: int, slow: float) -> Tensor:
        """Accuracy in % after 0, 1, 2, … texts."""
        course = 80 * (1 - torch.exp(-torch.arange(texts + 1) / slow))
        seed = 6 * torch.randn(seeds, 1, generator=generator)
        return course + seed + 2 * torch.randn(seeds, texts + 1, generator=generator)

    def case(seeds: int, texts: int, quantile: float) -> Case:
        short = torch.randint(6, 14, (texts,), generator=generator)
        long = short + torch.randint(10, 40, (texts,), generator=generator)
        cumulated = long.cumsum(0)
        full = int(cumulated[torch.randint(texts // 5, texts // 3, (1,), generator=generator)])
        return {
            "answer_lengths": short,
            "step_lengths": long,
            "answer_scores": scores(seeds, texts, texts / 3),
            "step_scores": scores(seeds, texts, texts / 5),
            "budget": full + int(torch.randint(8, (1,), generator=generator)),
            "quantile": quantile,
        }

    def told_apart(seeds: int, quantile: float, *options: dict[str, Any]) -> Case:
        def enough() -> Case:
            while True:
                found = case(seeds, 60, quantile)
                if found["answer_lengths"].sum() >= found["budget"]:
                    return found

        return telling(enough, _compared, *options, pairwise=True)

    example = {
        "answer_lengths": torch.tensor([3, 4, 3, 4, 3, 3]),
        "step_lengths": torch.tensor([9, 8, 9, 7, 8, 9]),
        "answer_scores": torch.tensor([[5.0, 20.0, 31.0, 40.0, 45.0, 52.0, 55.0], [2.0, 25, 33, 44, 51, 54, 60]]),
        "step_scores": torch.tensor([[4.0, 28.0, 44.0, 55.0, 63.0, 70.0, 72.0], [6.0, 30, 49, 61, 66, 75, 79]]),
        "budget": 17,
        "quantile": 12.706,
    }
    return [
        example,
        told_apart(5, 2.776, {"fits": "below"}, {"fits": "by mean"}, {"fits": "crossing"}),
        told_apart(4, 3.182, {"fits": "greedy"}, {"fits": "rounded mean"}),
        told_apart(6, 2.571, {"spread": "apart"}, {"correction": 0}, {"fits": "greedy"}),
    ]


def _compared(
    answer_lengths: Tensor, step_lengths: Tensor, answer_scores: Tensor, step_scores: Tensor, budget: int,
    quantile: float, *, fits: str = "at most", texts: str = "own", place: int = 0, spread: str = "paired",
    root: bool = True, correction: int = 1, of: str = "mean"
) -> tuple[int, int, float, float]:  # fmt: skip
    """Texts that both arms read, mean gain and half-width; each option changes something."""

    def read(lengths: Tensor) -> int:
        total, mean = lengths.cumsum(0), lengths.float().mean().item()
        taken, used = 0, 0
        for length in lengths.tolist():
            if used + length <= budget:
                taken, used = taken + 1, used + length
        count = {
            "at most": int((total <= budget).sum()),
            "below": int((total < budget).sum()),
            "crossing": int((total < budget).sum()) + 1,
            "by mean": int(budget / mean),
            "rounded mean": round(budget / mean),
            "greedy": taken,
        }[fits]
        return min(count, len(lengths))

    counts = {"own": (read(answer_lengths), read(step_lengths))}
    counts["fewer"], counts["more"] = (min(counts["own"]),) * 2, (max(counts["own"]),) * 2
    counts["all"] = (len(answer_lengths),) * 2
    short, long = counts[texts]
    one, other = step_scores[:, long + place], answer_scores[:, short + place]
    gain = one - other
    width = {
        "paired": gain.std(correction=correction),
        "apart": (one.var(correction=correction) + other.var(correction=correction)).sqrt(),
        "added": one.std(correction=correction) + other.std(correction=correction),
    }[spread]
    middle = {"mean": gain.mean(), "best": one.max() - other.max(), "median": gain.median()}[of]
    return short, long, middle.item(), quantile * width.item() / (len(gain) ** 0.5 if root else 1)


at_equal_tokens = Part(
    "at_equal_tokens", _token_cases, _compared, "lesson 11, section 3",
    use=trying.figures, tolerance=1e-4,
    mistakes=switched(
        _compared,
        ({"texts": "fewer"},
         "both arms still read as many texts as fit for the texts with steps: the answers alone leave most of the "
         "budget unread. Each arm reads as many as fit for it."),
        ({"texts": "more"},
         "both arms read as many texts as fit for the answers alone: the texts with steps go far beyond the budget."),
        ({"texts": "all"}, "both arms read all texts. The budget ends before."),
        ({"fits": "by mean"}, {"fits": "rounded mean"},
         "the budget is divided by a mean length. Texts are read in order: add up their own lengths."),
        ({"fits": "below"}, "a text that ends exactly with the budget is left out. It fits."),
        ({"fits": "crossing"}, "the text that goes beyond the budget is counted. Whole texts within it count."),
        ({"fits": "greedy"},
         "a text that does not fit is skipped, and shorter ones after it are read. Reading ends with the first that "
         "does not fit."),
        ({"place": -1}, "the scores are those of one text less. Column 0 is before any text: after `n` texts, column "
                        "`n`."),
        ({"spread": "apart"}, {"spread": "added"},
         "the interval puts the spreads of two arms together. A seed is good or bad for both: take the spread of the "
         "differences, seed by seed."),
        ({"root": False}, "the half-width lacks the division by √S."),
        ({"correction": 0}, "the spread is divided by S. Divide by S − 1, as `std` does."),
        ({"of": "best"}, "the best seeds are compared. Take the mean of the differences."),
        ({"of": "median"}, "this is the median of the differences. Take the mean."),
        most=3,
    ),
)  # fmt: skip

PARTS = (honest_saving, mended_distillation, mended_vectors, fair_score, at_equal_tokens)
