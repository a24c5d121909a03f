"""Exercise 10, language models: its parts, their inputs, and the mistakes they recognise."""

import math
from typing import Any

import torch
from torch import Tensor

from kdcourse.checks import trying
from kdcourse.checks.part import Part, switched, telling
from kdcourse.checks.trying import Case


# --- find the bugs: a model that is too good -----------------------------------------------------
def _text_cases(generator: torch.Generator) -> list[Case]:
    def case(texts: int, length: int, symbols: int, size: float = 2.0) -> Case:
        lengths = torch.randint(2, length + 1, (texts,), generator=generator)
        lengths[0], lengths[1] = length, 2
        real = torch.arange(length) < lengths[:, None]
        tokens = torch.randint(symbols, (texts, length), generator=generator)
        return {
            "student_logits": size * torch.randn(texts, length, symbols, generator=generator),
            "tokens": tokens * real,
            "real": real,
        }

    example = {
        "student_logits": torch.tensor([[[0.0, 1.0], [3.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 4.0], [0.0, 5.0]]]),
        "tokens": torch.tensor([[0, 1, 1], [1, 0, 0]]),
        "real": torch.tensor([[True, True, True], [True, True, False]]),
    }
    return [example, case(4, 7, 5), case(6, 12, 8), case(3, 5, 20, size=30.0)]


def _bits(
    student_logits: Tensor, tokens: Tensor, real: Tensor, *, about: str = "next", mean: str = "tokens", unit: str =
    "bits"
) -> Tensor:  # fmt: skip
    """Bits a token; each option changes something."""
    z = student_logits
    logits, targets, counts = {
        "next": (z[:, :-1], tokens[:, 1:], real[:, 1:]),
        "itself": (z, tokens, real),
        "itself but the first": (z[:, 1:], tokens[:, 1:], real[:, 1:]),
        "previous": (z[:, 1:], tokens[:, :-1], real[:, 1:]),
        "turned": (z, tokens.roll(-1, dims=1), real),
    }[about]
    if mean == "too early":
        counts = real[:, : targets.shape[1]]
    if mean == "zeros":
        counts = targets != 0
    surprise = -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    kept = torch.where(counts, surprise, 0.0)
    value = {
        "tokens": lambda: kept.sum() / counts.sum(),
        "too early": lambda: kept.sum() / counts.sum(),
        "zeros": lambda: kept.sum() / counts.sum(),
        "all": lambda: surprise.mean(),
        "all places": lambda: kept.mean(),
        "texts": lambda: (kept.sum(dim=1) / counts.sum(dim=1)).mean(),
        "firsts": lambda: kept.sum() / real.sum(),
        "sum": lambda: kept.sum(),
        "sum of texts": lambda: kept.sum(dim=1).mean(),
    }[mean]()
    return {
        "bits": lambda: value / math.log(2),
        "nats": lambda: value,
        "tens": lambda: value / math.log(10),
        "perplexity": lambda: value.exp(),
    }[unit]()


mended_bits = Part(
    "mended_bits", _text_cases, _bits, "lesson 10, section 1",
    use=trying.differentiated, tolerance=1e-4,
    mistakes=switched(
        _bits,
        ({"about": "itself"}, {"about": "itself but the first"},
         "the model is asked for the token that it has just read. Logits at a place are about the token *after* it: "
         "shift one against the other."),
        ({"about": "previous"}, "the shift goes the wrong way: the model is asked for the token *before* the one it "
                                "has read."),
        ({"about": "turned"},
         "`roll` moves the first token behind the last one, so that the last place is asked for it. Nobody predicts "
         "the first token: cut."),
        ({"mean": "all"}, "padding is counted."),
        ({"mean": "zeros"},
         "every 0 is left out, as if it were padding. It is a symbol of the texts, too: `real` says which ones count."),
        ({"mean": "too early"},
         "the mask is not shifted along with the tokens: the first padding token after each text is counted, or a text "
         "loses its last token. What counts is whether the *predicted* token is real."),
        ({"mean": "all places"},
         "padding is set to 0 and still counted in the number that the sum is divided by. Divide by the number of "
         "predicted tokens."),
        ({"mean": "texts"},
         "this is a mean of the texts' means, in which a token of a short text counts more. Every predicted token "
         "counts the same."),
        ({"mean": "firsts"},
         "the sum is divided by the number of all real tokens. The first of each text is predicted by nobody."),
        ({"mean": "sum"}, "this is a sum. Divide by the number of predicted tokens."),
        ({"mean": "sum of texts"}, "these are bits a *text*. Divide by the number of predicted tokens."),
        ({"unit": "nats"}, "these are nats. Divide by log 2."),
        ({"unit": "tens"}, "this uses log10. Bits are logarithms to base 2."),
        ({"unit": "perplexity"}, "this is the perplexity. Return its logarithm, to base 2."),
    ),
    slips={
        "real inverted": "`real` is inverted: padding is counted, and the text is not.",
        "other axis": "the softmax runs along another dimension. The symbols are along the last one.",
    },
)  # fmt: skip


# --- stored answers ------------------------------------------------------------------------------
def _stored_cases(generator: torch.Generator) -> list[Case]:
    def kept(logits: Tensor, k: int) -> dict[str, Tensor]:
        logs = logits.log_softmax(-1)
        tokens = logits.topk(k, dim=-1).indices
        return {
            "tokens": tokens,
            "log_kept": logs.gather(-1, tokens),
            "log_rest": logs.scatter(-1, tokens, -torch.inf).logsumexp(-1),
        }

    def case(places: int, symbols: int, k: int) -> Case:
        student, teacher = 2 * torch.randn(2, places, symbols, generator=generator)
        return {"student_logits": student, **kept(teacher, k)}

    def sure(size: float) -> Case:
        """A student that is sure of the most probable symbol: in float32, 1 less its probability is 0."""
        one = case(3, 6, 2)
        one["student_logits"].scatter_(1, one["tokens"][:, :1], size + 20 * torch.rand(3, 1, generator=generator))
        return one

    example = {"student_logits": torch.tensor([[0.5, 0.1, 0.2, 0.1, 0.1]]).log()}
    example |= kept(torch.tensor([[0.5, 0.3, 0.1, 0.06, 0.04]]).log(), 2)
    certain = kept(3 * torch.randn(4, 8, generator=generator) + 50 * torch.eye(4, 8), 3)
    return [example, case(5, 10, 3), case(4, 30, 8), sure(60), sure(140), {**case(4, 8, 3), **certain}]


_EPSILONS = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, torch.finfo(torch.float32).eps, torch.finfo(torch.float32).tiny)


def _stored(
    student_logits: Tensor, tokens: Tensor, log_kept: Tensor, log_rest: Tensor, *, rest: str = "cell", teacher:
    str = "stored", way: str = "forward", less: str = "entropy", over: str = "places", least: float = 0.0
) -> Tensor:  # fmt: skip
    """The divergence; each option changes something."""
    log_q = student_logits.log_softmax(-1)
    is_kept = torch.zeros_like(log_q, dtype=torch.bool).scatter(-1, tokens, True)
    own, others = log_q.gather(-1, tokens), log_q.masked_fill(is_kept, -torch.inf)
    count = (~is_kept).sum(-1)
    each = torch.where(is_kept, -torch.inf, (log_rest - count.log())[:, None]).scatter(-1, tokens, log_kept)
    many = torch.where(is_kept, -torch.inf, log_rest[:, None]).scatter(-1, tokens, log_kept)
    own_rest = {
        "cell": lambda: others.logsumexp(-1),
        "average": lambda: others.logsumexp(-1) - count.log(),
        "largest": lambda: others.amax(-1),
        "subtracted": lambda: (1 - own.exp().sum(-1)).clamp(min=least).log(),
        "added": lambda: (1 - own.exp().sum(-1) + least).log(),
        "outside": lambda: others.exp().sum(-1).clamp(min=least).log(),
    }
    if rest in own_rest:
        p, q = torch.cat([log_kept, log_rest[:, None]], -1), torch.cat([own, own_rest[rest]()[:, None]], -1)
    else:
        p, q = {
            "dropped": lambda: (log_kept, own),
            "both renormalised": lambda: (log_kept.log_softmax(-1), own.log_softmax(-1)),
            "teacher renormalised": lambda: (log_kept.log_softmax(-1), own),
            "student renormalised": lambda: (log_kept, own.log_softmax(-1)),
            "divided": lambda: (each, log_q),
            "many": lambda: (many, log_q),
        }[rest]()
    if teacher == "recomputed":
        p = torch.cat([p[:, :-1], (1 - log_kept.exp().sum(-1, keepdim=True)).log()], -1)
    p, q = (p, q) if way == "forward" else (q, p)
    terms = p.exp() * ((p if less == "entropy" else 0.0) - q)
    return terms.mean() if over == "outcomes" else terms.sum(-1).mean()


_SUBTRACTED = (
    "the student's rest is 1 minus its kept probabilities. Where it is sure of them, that is 0 or rounding noise: add "
    "up the others in log space instead."
)
_OUTSIDE = (
    "the student's rest is used outside log space: where it is very sure, its probability is 0 in float32, and the "
    "result infinite. Both the sum of the others and the divergence have to stay in log space."
)
_LEAST = (
    "a small number keeps the student's rest, 1 minus its kept probabilities or the sum of the others', from being 0. "
    "Where it is sure, that number stands in the place of the rest: add up the others in log space instead."
)

stored_divergence = Part(
    "stored_divergence", _stored_cases, _stored, "lesson 10, section 1",
    use=trying.differentiated, tolerance=1e-4,
    mistakes=switched(
        _stored,
        ({"rest": "dropped"},
         "the rest is left out. The sum over the kept tokens alone is no divergence: it can be negative, and is "
         "smallest for a student that never says anything else."),
        ({"rest": "both renormalised"},
         "both sides are renormalised over the kept tokens: how much is left for all others is not taught."),
        ({"rest": "teacher renormalised"},
         "the teacher's kept probabilities are renormalised: a student that agrees with the teacher would be told to "
         "never say anything else."),
        ({"rest": "student renormalised"},
         "the student's softmax runs over the kept tokens alone. It runs over all symbols; then pick the kept."),
        ({"rest": "divided"},
         "the rest is divided equally among the other symbols. How the teacher divides it is not known: it is one "
         "outcome."),
        ({"rest": "many"},
         "the whole rest is counted for each of the other symbols. It is one outcome: what the student has for all of "
         "them *together* stands against it."),
        ({"rest": "average"}, "the student's others are averaged. Add up their probabilities."),
        ({"rest": "largest"}, "only the largest of the student's others is taken. Add up their probabilities."),
        ({"rest": "outside"}, _OUTSIDE),
        ({"rest": "subtracted"}, _SUBTRACTED),
        ({"rest": "outside", "least": torch.finfo(torch.float32).tiny}, _LEAST),
        *(({"rest": kind, "least": least}, _LEAST) for kind in ("subtracted", "added") for least in _EPSILONS),
        ({"teacher": "recomputed"},
         "the teacher's rest is computed anew, as 1 minus what is kept. Where it is sure, that is rounding noise: "
         "`log_rest` was added up when it was stored."),
        ({"way": "reverse"}, "the two are exchanged: the average is taken over the teacher's outcomes."),
        ({"less": "nothing"},
         "this is the cross-entropy. It is not 0 where student and teacher agree; subtract the part that depends on "
         "the teacher alone."),
        ({"over": "outcomes"}, "this is a mean over the outcomes, too. A divergence is their sum; average over the "
                               "places."),
    ),
)  # fmt: skip


# --- find the bug: a loss that is right, and a student that stands still -------------------------
def _reverse_cases(generator: torch.Generator) -> list[Case]:
    def case(places: int, symbols: int, size: float = 2.0) -> Case:
        student, teacher = size * torch.randn(2, places, symbols, generator=generator)
        return {"student_logits": student, "teacher_logits": teacher}

    example = {"student_logits": torch.tensor([[0.8, 0.2]]).log(), "teacher_logits": torch.tensor([[0.5, 0.5]]).log()}
    far = case(3, 4)
    far["teacher_logits"] += torch.tensor([0.0, 150.0, -200.0, 0.0])
    return [example, case(5, 6), case(4, 12), far]


def _reverse(
    student_logits: Tensor, teacher_logits: Tensor, *, weights: str = "live", way: str = "reverse", over: str =
    "places", logs: str = "log_softmax"
) -> Tensor:  # fmt: skip
    """The divergence; each option changes something."""
    log_q, log_p = (
        {"log_softmax": z.log_softmax(-1), "late": z.softmax(-1).log(), "raw": z}[logs]
        for z in (student_logits, teacher_logits)
    )
    first, second = {"reverse": (log_q, log_p), "forward": (log_p, log_q)}[way]
    share = first.softmax(-1)
    share = {"live": share, "detached": share.detach(), "double": 2 * share - share.detach()}[weights]
    terms = share * (first - second)
    return {"places": lambda: terms.sum(-1).mean(), "sum": lambda: terms.sum(), "all": lambda: terms.mean()}[over]()


mended_reverse = Part(
    "mended_reverse", _reverse_cases, _reverse, "lesson 10, section 3",
    use=trying.differentiated, tolerance=1e-4,
    write_yourself=("kl_div", "kl_divergence"),
    mistakes=switched(
        _reverse,
        ({"weights": "detached"},
         "the weights are still cut off. What is left of the gradient is the mean of ∇ log q under q itself, and that "
         "is the gradient of Σ q = 1: zero. The student stands still."),
        ({"weights": "double"}, "the weights' part of the gradient is counted twice."),
        ({"way": "forward"}, "this is KL(teacher ‖ student). Return the reverse one, weighted with the *student's* "
                             "probabilities."),
        ({"over": "sum"}, "this is a sum over the places. Return their mean."),
        ({"over": "all"}, "this is a mean over the symbols, too. A divergence is their sum; average over places."),
        ({"logs": "raw"}, "logits stand where log-probabilities belong: take `log_softmax` of both first."),
        ({"logs": "late"},
         "the result is infinite for finite logits: a small probability is rounded to 0 before its logarithm is taken. "
         "`log_softmax` does not leave log space."),
        most=1,
    ),
)  # fmt: skip


# --- find the bug: the loss of drawn texts -------------------------------------------------------
def _drawn_cases(generator: torch.Generator) -> list[Case]:
    def case(texts: int, length: int, symbols: int) -> Case:
        student, teacher = torch.randn(2, texts, length, symbols, generator=generator)
        drawn = torch.multinomial(student.flatten(0, 1).softmax(-1), 1, generator=generator)
        return {"student_logits": student, "teacher_logits": teacher, "tokens": drawn.view(texts, length)}

    return [case(2, 2, 2), case(4, 3, 5), case(6, 8, 4), case(1, 4, 3)]


def _text_loss(
    student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor, *, moves: str = "score", prints: str = "ratio",
    over: str = "texts", drawn: bool = True
) -> Tensor:  # fmt: skip
    """The loss; each option changes something, most only its gradient."""
    both = [logits.log_softmax(-1) for logits in (student_logits, teacher_logits)]
    if not drawn:
        return (both[0].exp() * (both[0] - both[1])).sum((1, 2)).mean()
    log_q, log_p = (logs.gather(-1, tokens[..., None])[..., 0] for logs in both)
    each = (log_q - log_p).detach()
    ratio, log_x = each.sum(1), log_q.sum(1)
    moving = {
        "score": lambda: ratio * log_x,
        "ratio": lambda: log_x,
        "both": lambda: (1 + ratio) * log_x,
        "live product": lambda: (ratio + log_x.detach()) * log_x,
        "own token": lambda: (each * log_q).sum(1),
        "what follows": lambda: (each.flip(1).cumsum(1).flip(1) * log_q).sum(1),
        "what came before": lambda: (each.cumsum(1) * log_q).sum(1),
        "baseline": lambda: (ratio - ratio.mean()) * log_x,
        "upwards": lambda: -ratio * log_x,
        "teacher alone": lambda: -log_p.sum(1) * log_x,
    }[moves]()
    shown = {
        "ratio": lambda: ratio,
        "product": lambda: (ratio * log_x).detach(),
        "zero": lambda: torch.zeros_like(ratio),
        "teacher": lambda: -log_p.sum(1),
        "opposite": lambda: -ratio,
    }[prints]()
    loss = shown + (moving - moving.detach())
    return {"texts": loss.mean(), "sum": loss.sum(), "tokens": loss.mean() / tokens.shape[1]}[over]


text_loss = Part(
    "text_loss", _drawn_cases, _text_loss, "lesson 10, section 3",
    use=trying.differentiated, tolerance=1e-4,
    mistakes=switched(
        _text_loss,
        ({"moves": "ratio"},
         "its gradient is that of the log-ratio, as in the program: ∇ log q(x), whatever the teacher says. Its mean "
         "over the student's texts is zero. The log-ratio has to be the *weight* of ∇ log q(x)."),
        ({"moves": "both"},
         "beside the right gradient there is that of the log-ratio itself, since it is not detached everywhere. Its "
         "mean is zero: it adds nothing but noise."),
        ({"moves": "live product"},
         "the ratio that weighs is not detached. It is a number here: the student in it must not be moved."),
        ({"moves": "own token"},
         "each token's ∇ log q is weighted with the log-ratio of that token alone. Where it leads is left out: weigh "
         "with that of the whole text."),
        ({"moves": "what follows"},
         "each token's ∇ log q is weighted with the log-ratios from that token on. On average that is right, and less "
         "noisy. This part wants the weight of the whole text."),
        ({"moves": "what came before"},
         "each token's ∇ log q is weighted with the log-ratios up to that token. What it leads to comes *after* it: "
         "weigh with the whole text's."),
        ({"moves": "baseline"},
         "the mean of the ratios is subtracted from the weights. That saves noise, and is another estimate than the "
         "one that this part wants."),
        ({"moves": "upwards"}, "the gradient points the wrong way: descent would lead away from the teacher."),
        ({"moves": "teacher alone"},
         "the weight is the teacher's surprise alone. Without log q in it the student is pulled to the teacher's most "
         "probable text."),
        ({"prints": "product"},
         "its value is the mean of the ratio times log q(x). The value should be the mean log-ratio: only the gradient "
         "is that of this product."),
        ({"prints": "zero"}, "its value is 0. It should be the mean log-ratio."),
        ({"prints": "teacher"}, "its value is the teacher's surprise. It should be the mean log-ratio, log q − log p."),
        ({"prints": "opposite"}, {"prints": "opposite", "moves": "upwards"},
         "the log-ratio is turned round. Here it is log q(x) − log p(x): the student is q."),
        ({"over": "sum"}, "this is a sum over the texts. Return their mean."),
        ({"over": "tokens"}, "this is a mean over the tokens. The log-ratio of a text is the *sum* over its tokens."),
        ({"drawn": False},
         "these are divergences over all symbols at each place. Use the tokens that were drawn, and no others."),
        most=1,
    ),
)  # fmt: skip


# --- find the bugs: a draft that changes the text ------------------------------------------------
def _step_cases(generator: torch.Generator) -> list[Case]:
    def case(ahead: int, symbols: int) -> Case:
        """No number so near to where a token is accepted or another one drawn that rounding could decide."""
        while True:
            p = (1.5 * torch.randn(ahead + 1, symbols, generator=generator)).softmax(-1)
            q = (1.5 * torch.randn(ahead, symbols, generator=generator)).softmax(-1)
            chances = torch.rand(ahead, generator=generator)
            spare = torch.rand(ahead + 1, generator=generator)
            drafted = torch.multinomial(q, 1, generator=generator)[:, 0]
            ratios = (p[:-1] / q).gather(1, drafted[:, None])[:, 0]
            ends = torch.cat([(p[:-1] - q).clamp(min=0), p[-1:]])
            ends = (ends / ends.sum(1, keepdim=True)).cumsum(1)
            apart = (ends - spare[:, None]).abs().min() > 0.005 and (ratios - chances).abs().min() > 0.01
            if apart and ends[:, -1].gt(spare).all():
                return {"p": p, "q": q, "drafted": drafted, "chances": chances, "spare": spare}

    example = {
        "p": torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]),
        "q": torch.tensor([[0.2, 0.3, 0.5]]),
        "drafted": torch.tensor([2]),
        "chances": torch.tensor([0.7]),
        "spare": torch.tensor([0.6, 0.3]),
    }

    def telling_case(ahead: int, symbols: int, **options: list[str]) -> Case:
        switches = [{name: choice} for name, choices in options.items() for choice in choices]
        return telling(lambda: case(ahead, symbols), _step, *switches)

    return [
        example,
        telling_case(2, 8, accept=["q/p"], again=["p", "absolute"]),
        telling_case(3, 10, refused=["goes on", "keeps", "left out", "adds"], of=["next"]),
        telling_case(2, 8, bonus=["q", "before", "none"]),
        telling_case(1, 8, bonus=["q", "before"]),
        telling_case(4, 12, accept=["p", "p at least q"], again=["q", "less"], number=["first", "none"]),
        telling_case(3, 10, accept=["most probable", "half"], of=["first"]),
    ]


def _token(weights: Tensor, number: float) -> int:
    """The token that a number from 0 to 1 draws."""
    return min(int(((weights / weights.sum()).cumsum(0) <= number).sum()), len(weights) - 1)


def _step(
    p: Tensor, q: Tensor, drafted: Tensor, chances: Tensor, spare: Tensor, *, accept: str = "p/q", again: str = "more",
    of: str = "own", refused: str = "stop", bonus: str = "p", number: str = "own"
) -> list[int]:  # fmt: skip
    """The tokens that come; each option changes something."""

    def drawn(weights: Tensor, place: int) -> int:
        if number == "none":
            return int(weights.argmax())
        return _token(weights, spare[place if number == "own" else 0].item())

    tokens: list[int] = []
    for place, (one, chance) in enumerate(zip(drafted.tolist(), chances.tolist(), strict=True)):
        here, there = p[place, one], q[place, one]
        if {
            "p/q": chance < here / there,
            "q/p": chance < there / here,
            "p": chance < here,
            "p at least q": bool(here >= there),
            "most probable": one == int(p[place].argmax()),
            "half": chance < 0.5,
        }[accept]:
            tokens.append(one)
            continue
        wanted = p[{"own": place, "next": place + 1, "first": 0}[of]]
        weights = {
            "more": (wanted - q[place]).clamp(min=0),
            "p": wanted,
            "q": q[place],
            "absolute": (wanted - q[place]).abs(),
            "less": (q[place] - wanted).clamp(min=0),
        }[again]
        if refused != "left out":
            tokens.append(drawn(weights, place))
        if refused == "keeps":
            tokens += drafted.tolist()[place + 1 :]
        if refused in ("stop", "left out", "keeps"):
            return tokens
        if refused == "adds":
            break
    if bonus != "none":
        last = {"p": p[-1], "q": q[-1], "before": p[-2]}[bonus]
        tokens.append(drawn(last, -1))
    return tokens


mended_step = Part(
    "mended_step", _step_cases, _step, "lesson 10, section 6",
    use=trying.listed,
    mistakes=switched(
        _step,
        ({"refused": "goes on"},
         "the loop goes on after a refusal. What was drafted after the refused token was drafted for a text that is "
         "not there any more: stop."),
        ({"refused": "keeps"},
         "what was drafted after a refused token is kept. It was drafted for a text that is not there any more: stop."),
        ({"refused": "adds"},
         "after a refusal the target's last distribution gives one token more. It is about what follows *all* drafted "
         "tokens: return what there is."),
        ({"refused": "left out"}, "after a refusal nothing is drawn. The target's call gives a token there, too."),
        ({"again": "absolute"},
         "the refused token is replaced from |p − q|, which has weight where the draft has too much as well. Draw only "
         "where p has *more*."),
        ({"again": "p"},
         "the refused token is replaced from p. What the draft likes too well then comes back too often: draw from "
         "what p has more than q."),
        ({"again": "q"}, {"again": "less"},
         "the refused token is replaced from q, or from what q has more than p. It is the other way round: draw from "
         "what p has more."),
        ({"of": "next"}, "a refused token is replaced by the distributions of the next place. Take those of its own."),
        ({"of": "first"}, "every refused token is replaced by the distributions of the first place. Take those of its "
                          "own."),
        ({"accept": "q/p"},
         "the ratio is upside down: what the draft likes better than the target is always accepted. Compare with "
         "p / q."),
        ({"accept": "p"}, "a token is accepted with probability p. It was drawn with probability q: divide by it."),
        ({"accept": "p at least q"},
         "`chances` makes no difference: a token that the draft likes better than the target is never accepted. It is, "
         "with probability p / q."),
        ({"accept": "most probable"},
         "only the target's most probable token is accepted. That is right for greedy writing; here texts are drawn."),
        ({"accept": "half"}, "a token is accepted with probability one half, whatever p and q."),
        ({"bonus": "none"}, "where all are accepted a token is missing: the target's call gives one more."),
        ({"bonus": "q"}, "the token after all drafted ones comes from the draft. It comes from p, its last row."),
        ({"bonus": "before"}, "the token after all drafted ones comes from the row before the last of p."),
        ({"number": "first"}, "every draw uses the first number of `spare`. Use that of its place."),
        ({"number": "none"}, "nothing is drawn: the most probable token is taken."),
    ),
)  # fmt: skip


# --- equal steps, equal cost ---------------------------------------------------------------------
def _curve_cases(generator: torch.Generator) -> list[Case]:
    def case(seeds: int, steps: int, label_ms: int, taught_ms: int, asking_ms: int, quantile: float) -> Case:
        longest = math.ceil(steps * (asking_ms + taught_ms) / label_ms) + 3
        level = 0.4 * torch.randn(seeds, 1, generator=generator)
        place = torch.arange(1, longest + 1)
        noise = 0.15 * torch.randn(seeds, longest + steps, generator=generator)
        labels = 3 + level + 3 / place**0.5 + noise[:, :longest]
        taught = 2.9 + level + 2.5 / place[:steps] ** 0.5 + noise[:, longest:]
        return {
            "labels": labels,
            "taught": taught,
            "label_ms": label_ms,
            "taught_ms": taught_ms,
            "asking_ms": asking_ms,
            "quantile": quantile,
        }

    example = {
        "labels": torch.tensor(
            [[5.0, 4.0, 3.5, 3.2, 3.0, 2.9], [5.2, 4.1, 3.7, 3.4, 3.3, 3.1], [5.1, 4.3, 3.6, 3.2, 3.1, 3.0]]
        ),
        "taught": torch.tensor([[4.4, 3.7], [4.8, 3.9], [4.6, 3.8]]),
        "label_ms": 10,
        "taught_ms": 14,
        "asking_ms": 5,
        "quantile": 4.303,
    }

    def telling_case(seeds: int, *timing: Any, **options: list[Any]) -> Case:
        switches = [{name: choice} for name, choices in options.items() for choice in choices]
        return telling(lambda: case(seeds, *timing), _saved, *switches)

    return [
        example,
        telling_case(
            5, 6, 3, 7, 10, 2.776, whole=["down", "nearest"], asking=["no", "each"], longer=["taught", "same"]
        ),
        telling_case(
            4, 8, 4, 10, 0, 3.182, place=["late", "late control", "end"], read=["best", "mean"], ratio=["upside down"]
        ),
        telling_case(10, 5, 5, 6, 42, 2.262, spread=["unpaired", "overlap"], asking=["no"], whole=["down"]),
        telling_case(3, 7, 2, 2, 31, 4.303, n=[0], root=[False], asking=["no"]),
    ]


def _saved(
    labels: Tensor, taught: Tensor, label_ms: int, taught_ms: int, asking_ms: int, quantile: float, *, whole: str =
    "up", asking: str = "once", ratio: str = "taught", longer: str = "labels", place: str = "own", read: str = "last",
    spread: str = "paired", n: int = 1, root: bool = True, turned: bool = False, give: str = "ends"
) -> tuple:  # fmt: skip
    """Both intervals; each option changes something."""
    seeds, steps = taught.shape
    before = {"once": asking_ms, "no": 0, "each": steps * asking_ms}[asking]
    rounded = {"up": math.ceil, "down": math.floor, "nearest": round}[whole]
    if longer == "labels":
        cost, each = (before + steps * taught_ms, label_ms) if ratio == "taught" else (steps * label_ms, taught_ms)
        control, own = min(max(rounded(cost / each), 1), labels.shape[1]), steps
    elif longer == "taught":
        control, own = steps, min(max(rounded((steps * label_ms - before) / taught_ms), 1), steps)
    else:
        control, own = steps, steps

    def level(curves: Tensor, count: int) -> Tensor:
        after = min(count, curves.shape[1] - 1)
        of_control = after if count == control else count - 1
        at = {"own": count - 1, "late": after, "late control": of_control, "end": -1}[place]
        if read != "last":
            return {"best": curves[:, :count].amin(1), "mean": curves[:, :count].mean(1)}[read]
        return curves[:, at]

    def interval(first: Tensor, second: Tensor) -> tuple[float, float]:
        difference = (second - first if turned else first - second).double()
        width = difference.std(correction=n)
        if spread != "paired":
            both = torch.stack([first, second]).double().std(dim=1, correction=n)
            width = both.norm() if spread == "unpaired" else both.sum()
        half = quantile * width.item() / (seeds**0.5 if root else 1)
        middle = difference.mean().item()
        return (middle - half, middle + half) if give == "ends" else (middle, half)

    equal_steps = labels[:, steps - 1] if place == "end" and read == "last" else level(labels, steps)
    return interval(equal_steps, level(taught, steps)), interval(level(labels, control), level(taught, own))


fair_intervals = Part(
    "fair_intervals", _curve_cases, _saved, "lesson 10, section 2",
    use=trying.figures, tolerance=1e-4,
    mistakes=switched(
        _saved,
        ({"longer": "same"}, "both intervals are at equal steps. For the second one give the control more steps."),
        ({"longer": "taught"},
         "for the second interval the taught student is stopped earlier. Leave it as it is and give the control more "
         "steps."),
        ({"asking": "no"}, "what was spent before the first step is left out of the cost."),
        ({"asking": "each"}, "what was spent before the first step is counted at every step. It is spent once."),
        ({"ratio": "upside down"}, "the costs of the two steps are exchanged. Where a step with the teacher takes "
                                   "longer, the control makes *more* steps."),
        ({"whole": "down"}, {"whole": "nearest"},
         "the control's steps are rounded down, so that it gets less time than the student it is compared with. Round "
         "up."),
        ({"place": "late"}, {"place": "late control"},
         "a curve is read too late. Column n is measured after n + 1 steps: after n steps it is column n − 1."),
        ({"place": "end"}, "the control is read at the end of its curve. It gets as many steps as the cost allows."),
        ({"read": "best"}, "the best step of each curve is taken, on the very data that are reported. Take the last."),
        ({"read": "mean"}, "curves are averaged over their steps. Take the last step."),
        ({"spread": "unpaired"},
         "the interval adds up the spreads of two arms. A seed is hard or easy for both: take the spread of the "
         "differences, seed by seed."),
        ({"spread": "overlap"},
         "the half-width is that of two intervals, added. Take the interval of the differences, seed by seed."),
        ({"root": False}, "the half-width lacks the division by √S."),
        ({"n": 0}, "the spread is divided by S. Divide by S − 1, as `std` does."),
        ({"turned": True}, "the sign is reversed: what the teacher *saves* is labels − taught."),
        ({"give": "half"}, "these are means and half-widths. Return the two ends of each interval."),
    ),
    slips={"reversed": "the two intervals are exchanged: the one at equal steps comes first."},
)  # fmt: skip

PARTS = (mended_bits, stored_divergence, mended_reverse, text_loss, mended_step, fair_intervals)
