"""Exercise 10: right answers in several styles pass, typical wrong ones are recognised by name."""

import math
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

import kdlib
from kdcourse.checks import ex10

LOG_2 = math.log(2)


def bits_by_ignoring(student_logits, tokens, real):
    targets = tokens.masked_fill(~real, -100)[:, 1:]
    return F.cross_entropy(student_logits[:, :-1].transpose(1, 2), targets) / math.log(2)


def bits_in_a_loop(student_logits, tokens, real):
    total, count = 0.0, 0
    for logits, text, is_real in zip(student_logits, tokens, real, strict=True):
        for place in range(1, int(is_real.sum())):
            total = total - logits[place - 1].log_softmax(0)[text[place]] / math.log(2)
            count += 1
    return total / count


def bits_by_log2(student_logits, tokens, real):
    q = student_logits.double().log_softmax(-1).gather(2, tokens.roll(-1, 1)[..., None])[..., 0]
    last = real & ~F.pad(real, (0, 1))[:, 1:]
    return -(q * math.log2(math.e))[real & ~last].mean()


def stored_by_logaddexp(student_logits, tokens, log_kept, log_rest):
    logs = student_logits.log_softmax(1)
    losses = []
    for row, kept, p, rest in zip(logs, tokens, log_kept, log_rest, strict=True):
        others = [symbol for symbol in range(len(row)) if symbol not in kept.tolist()]
        q_rest = torch.logsumexp(row[others], 0)
        losses.append((p.exp() * (p - row[kept])).sum() + rest.exp() * (rest - q_rest))
    return torch.stack(losses).mean()


def stored_with_kl_div(student_logits, tokens, log_kept, log_rest):
    is_kept = F.one_hot(tokens, student_logits.shape[1]).sum(1).bool()
    logs = student_logits.double() - student_logits.double().logsumexp(1, keepdim=True)
    rest = logs.masked_fill(is_kept, -math.inf).logsumexp(1)
    both = torch.cat([logs.gather(1, tokens), rest[:, None]], 1)
    return F.kl_div(both, torch.cat([log_kept, log_rest[:, None]], 1), log_target=True, reduction="batchmean")


def stored_from_logits(student_logits, tokens, log_kept, log_rest):
    """Outcomes as logits: the kept ones, and the logsumexp of the others; the softmax of these k + 1 is the same."""
    rest = student_logits.scatter(1, tokens, -math.inf).logsumexp(1, keepdim=True)
    own = torch.cat([student_logits.gather(1, tokens), rest], 1).log_softmax(1)
    theirs = torch.cat([log_kept, log_rest.unsqueeze(1)], 1)
    return -(theirs.exp() * (own - theirs)).sum() / len(own)


def reverse_with_probabilities(student_logits, teacher_logits):
    q, log_q = student_logits.softmax(1), student_logits.log_softmax(1)
    return torch.einsum("nc,nc->n", q, log_q - teacher_logits.log_softmax(1)).mean()


def reverse_with_the_ratio_detached(student_logits, teacher_logits):
    """The other factor may be cut off: Σ q ∇ log q is 0."""
    log_q, log_p = student_logits.log_softmax(1), teacher_logits.log_softmax(1)
    return (log_q.exp() * (log_q - log_p).detach()).sum(1).mean()


def reverse_as_a_difference(student_logits, teacher_logits):
    q = torch.softmax(student_logits, dim=1)
    entropy = torch.distributions.Categorical(logits=student_logits).entropy()
    return F.cross_entropy(teacher_logits, q) - entropy.mean()


def of_tokens(logits, tokens):
    return logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0].sum(1)


def texts_by_exp(student_logits, teacher_logits, tokens):
    """q / q as a number is 1, and its gradient is ∇ log q."""
    log_q, log_p = of_tokens(student_logits, tokens), of_tokens(teacher_logits, tokens)
    return ((log_q - log_q.detach()).exp() * (log_q.detach() - log_p)).mean()


def texts_in_a_loop(student_logits, teacher_logits, tokens):
    loss = 0.0
    for student, teacher, text in zip(student_logits, teacher_logits, tokens, strict=True):
        log_q, log_p = (-F.cross_entropy(logits, text, reduction="sum") for logits in (student, teacher))
        r = (log_q - log_p).item()
        loss = loss + r * (1 + log_q - log_q.item())
    return loss / len(tokens)


class Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_q, log_p):
        ctx.save_for_backward(log_q - log_p)
        return (log_q - log_p).mean()

    @staticmethod
    def backward(ctx, gradient):
        (ratio,) = ctx.saved_tensors
        return gradient * ratio / len(ratio), None


def texts_by_hand(student_logits, teacher_logits, tokens):
    return Score.apply(of_tokens(student_logits, tokens), of_tokens(teacher_logits, tokens))


def draw(weights, number):
    return min(int(((weights / weights.sum()).cumsum(0) <= number).sum()), len(weights) - 1)


def step_with_while(p, q, drafted, chances, spare):
    kept = 0
    while kept < len(drafted) and chances[kept] * q[kept, drafted[kept]] < p[kept, drafted[kept]]:
        kept += 1
    weights = torch.relu(p[kept] - q[kept]) if kept < len(q) else p[kept]
    return [*drafted[:kept], draw(weights, spare[kept])]


def step_at_once(p, q, drafted, chances, spare):
    places = torch.arange(len(drafted))
    fine = (chances < p[places, drafted] / q[places, drafted]).long().cumprod(0)
    kept = int(fine.sum())
    more = (p - F.pad(q, (0, 0, 0, 1))).clamp(min=0)
    return torch.cat([drafted[:kept], torch.tensor([draw(more[kept], spare[kept])])])


def step_with_numpy(p, q, drafted, chances, spare):
    p, q, tokens = p.double().numpy(), q.double().numpy(), []
    for place, token in enumerate(drafted.numpy()):
        if chances[place].item() >= p[place, token] / q[place, token]:
            weights = np.maximum(p[place] - q[place], 0)
            return [*tokens, np.searchsorted(np.cumsum(weights) / weights.sum(), spare[place].item(), side="right")]
        tokens.append(token)
    return [*tokens, np.searchsorted(np.cumsum(p[-1]) / p[-1].sum(), spare[-1].item(), side="right")]


def intervals_in_lists(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    steps = taught.shape[1]
    control = -(-(asking_ms + steps * taught_ms) // label_ms)
    found = []
    for count in (steps, control):
        gaps = [a[count - 1] - b[-1] for a, b in zip(labels.tolist(), taught.tolist(), strict=True)]
        mean = sum(gaps) / len(gaps)
        half = quantile * math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))
        found.append([mean - half, mean + half])
    return found


def intervals_with_numpy(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    steps = taught.shape[1]
    columns = [steps, int(np.ceil((asking_ms + steps * taught_ms) / label_ms))]
    saved = labels.double().numpy()[:, np.array(columns) - 1] - taught.double().numpy()[:, -1:]
    half = quantile * saved.std(axis=0, ddof=1) / np.sqrt(len(saved))
    return np.stack([saved.mean(axis=0) - half, saved.mean(axis=0) + half], axis=1)


def intervals_by_waiting(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    steps, spent = 0, 0
    while spent < asking_ms + taught.shape[1] * taught_ms:
        steps, spent = steps + 1, spent + label_ms

    def interval(count):
        saved = (labels[:, count - 1] - taught[:, -1]).double()
        return saved.mean() - quantile * saved.std() / len(saved) ** 0.5, saved.mean() + quantile * saved.std() / len(
            saved
        ) ** 0.5

    return interval(taught.shape[1]), interval(steps)


RIGHT = {
    ex10.mended_bits: [bits_by_ignoring, bits_in_a_loop, bits_by_log2],
    ex10.stored_divergence: [stored_by_logaddexp, stored_with_kl_div, stored_from_logits],
    ex10.mended_reverse: [reverse_with_probabilities, reverse_with_the_ratio_detached, reverse_as_a_difference],
    ex10.text_loss: [texts_by_exp, texts_in_a_loop, texts_by_hand],
    ex10.mended_step: [step_with_while, step_at_once, step_with_numpy],
    ex10.fair_intervals: [intervals_in_lists, intervals_with_numpy, intervals_by_waiting],
}


def bits(pair, mean=lambda surprise, counts: surprise[counts].mean(), unit=LOG_2):
    """A measure of logits, targets and what counts, as ``pair`` lines them up."""

    def measure(student_logits, tokens, real):
        logits, targets, counts = pair(student_logits, tokens, real)
        surprise = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return mean(surprise, counts) / unit

    return measure


def following(z, t, real):
    return z[:, :-1], t[:, 1:], real[:, 1:]


def itself(z, t, real):
    return z, t, real


def everything(surprise, counts):
    return surprise.mean()


def of_texts(surprise, counts):
    return torch.stack([row[some].mean() for row, some in zip(surprise, counts, strict=True)]).mean()


def outcomes(ours, theirs=lambda kept, rest: torch.cat([kept, rest[:, None]], 1), reverse=False):
    """A divergence of outcomes that ``ours`` makes of the student's log-probabilities."""

    def loss(student_logits, tokens, log_kept, log_rest):
        p, q = theirs(log_kept, log_rest), ours(student_logits.log_softmax(1), tokens)
        p, q = (q, p) if reverse else (p, q)
        return (p.exp() * (p - q)).sum(1).mean()

    return loss


def with_rest(log_q, tokens):
    rest = log_q.scatter(1, tokens, -math.inf).logsumexp(1, keepdim=True)
    return torch.cat([log_q.gather(1, tokens), rest], 1)


def with_subtracted(least=0.0):
    def ours(log_q, tokens):
        kept = log_q.gather(1, tokens)
        return torch.cat([kept, (1 - kept.exp().sum(1, keepdim=True)).clamp(min=least).log()], 1)

    return ours


def added_outside(student_logits, tokens, log_kept, log_rest, least=0.0):
    q = student_logits.softmax(-1)
    rest = q.scatter(1, tokens, 0.0).sum(1) + least
    both = torch.cat([student_logits.log_softmax(-1).gather(1, tokens), rest.log()[:, None]], 1)
    theirs = torch.cat([log_kept, log_rest[:, None]], 1)
    return (theirs.exp() * (theirs - both)).sum(1).mean()


def with_distributions(student_logits, tokens, log_kept, log_rest):
    """PyTorch's divergence is infinite where a probability is 0 in float32."""
    own = torch.distributions.Categorical(logits=with_rest(student_logits.log_softmax(1), tokens))
    theirs = torch.distributions.Categorical(logits=torch.cat([log_kept, log_rest[:, None]], 1))
    return torch.distributions.kl_divergence(theirs, own).mean()


def with_average(log_q, tokens):
    others = log_q.shape[1] - tokens.shape[1]
    both = with_rest(log_q, tokens)
    return torch.cat([both[:, :-1], both[:, -1:] - math.log(others)], 1)


def rest_divided(student_logits, tokens, log_kept, log_rest):
    others = student_logits.shape[1] - tokens.shape[1]
    p = (log_rest.exp() / others)[:, None].expand_as(student_logits).scatter(1, tokens, log_kept.exp())
    return F.kl_div(student_logits.log_softmax(1), p, reduction="batchmean")


def authors_reverse(student_logits, teacher_logits):
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return (log_q.exp().detach() * (log_q - log_p)).sum(-1).mean()


def reverse_without_gradient(student_logits, teacher_logits):
    with torch.no_grad():
        return reverse_with_probabilities(student_logits, teacher_logits)


def both_of(student_logits, teacher_logits, tokens):
    return of_tokens(student_logits, tokens), of_tokens(teacher_logits, tokens)


def log_ratio(z, t, x):
    log_q, log_p = both_of(z, t, x)
    return (log_q - log_p).mean()


def live_product(z, t, x):
    log_q, log_p = both_of(z, t, x)
    ratio = log_q - log_p
    return (ratio.detach() + ratio * log_q - (ratio * log_q).detach()).mean()


def only_one_detached(z, t, x):
    log_q, log_p = both_of(z, t, x)
    ratio = log_q - log_p
    return (ratio + ratio.detach() * (log_q - log_q.detach())).mean()


def product(z, t, x):
    log_q, log_p = both_of(z, t, x)
    return ((log_q - log_p).detach() * log_q).mean()


def by_token(weigh=lambda ratio: ratio, count=lambda found: found.sum(1).mean()):
    def loss(z, t, x):
        log_q, log_p = (logits.log_softmax(-1).gather(2, x[..., None])[..., 0] for logits in (z, t))
        ratio = (log_q - log_p).detach()
        moving = weigh(ratio) * log_q
        return count(ratio + moving - moving.detach())

    return loss


def at_each_place(z, t, x):
    q, p = z.log_softmax(-1), t.log_softmax(-1)
    return (q.exp() * (q - p)).sum((1, 2)).mean()


def step(
    fine=lambda p, q, x, chance: chance < p[x] / q[x],
    replaced=lambda p, q: (p - q).clamp(min=0),
    stops=True,
    last=lambda p, q: p[-1],
):
    """The step with one of its rules replaced."""

    def steps(p, q, drafted, chances, spare):
        tokens = []
        for place, token in enumerate(drafted.tolist()):
            if not fine(p[place], q[place], token, chances[place]):
                token = draw(replaced(p[place], q[place]), spare[place])
                if stops:
                    return [*tokens, token]
            tokens.append(token)
        return tokens if last is None else [*tokens, draw(last(p, q), spare[-1])]

    return steps


def refused_left_out(p, q, drafted, chances, spare):
    tokens = step_with_while(p, q, drafted, chances, spare)
    return tokens if len(tokens) > len(drafted) else tokens[:-1]


def most_probable(p, q, drafted, chances, spare):
    tokens = step_with_while(p, q, drafted, chances, spare)
    kept = len(tokens) - 1
    return [*tokens[:-1], (p[kept] - q[kept] if kept < len(q) else p[kept]).argmax()]


def one_more_after_a_refusal(p, q, drafted, chances, spare):
    tokens = step_with_while(p, q, drafted, chances, spare)
    every = step_with_while(p, q, drafted, 0 * chances, spare)
    return tokens if torch.equal(torch.tensor(tokens), torch.tensor(every)) else [*tokens, draw(p[-1], spare[-1])]


def intervals(
    control=lambda steps, label, taught, asking: math.ceil((asking + steps * taught) / label),
    read=lambda curves, count: curves[:, count - 1],
    spread=lambda a, b: (a - b).std(),
    root=True,
    ends=lambda mean, half: (mean - half, mean + half),
):
    """Both intervals, with one of the steps replaced."""

    def found(labels, taught, label_ms, taught_ms, asking_ms, quantile):
        steps = taught.shape[1]
        both = []
        for count in (steps, control(steps, label_ms, taught_ms, asking_ms)):
            a, b = read(labels, count), read(taught, steps)
            half = quantile * spread(a, b) / (len(a) ** 0.5 if root else 1)
            both.append(tuple(end.item() for end in ends((a - b).mean(), half)))
        return tuple(both)

    return found


def control_read_late(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    """Right at equal steps; at equal cost n stands in the place of n − 1."""
    n = math.ceil((asking_ms + taught.shape[1] * taught_ms) / label_ms)
    found = []
    for column in (taught.shape[1] - 1, n):
        saved = labels[:, column] - taught[:, -1]
        half = quantile * saved.std() / len(saved) ** 0.5
        found.append(((saved.mean() - half).item(), (saved.mean() + half).item()))
    return found


def taught_cut(labels, taught, label_ms, taught_ms, asking_ms, quantile):
    right = intervals()
    steps = taught.shape[1]
    less = min(max(math.ceil((steps * label_ms - asking_ms) / taught_ms), 1), steps)
    same = right(labels, taught, 1, 1, 0, quantile)[0]
    saved = labels[:, steps - 1] - taught[:, less - 1]
    half = quantile * saved.std() / len(saved) ** 0.5
    return same, ((saved.mean() - half).item(), (saved.mean() + half).item())


WRONG = {
    ex10.mended_bits: [
        (bits(itself), "the token that it has just read"),
        (bits(lambda z, t, real: (z[:, 1:], t[:, :-1], real[:, 1:])), "the shift goes the wrong way"),
        (bits(lambda z, t, real: (z[:, 1:], t[:, 1:], real[:, 1:])), "the token that it has just read"),
        (bits(lambda z, t, real: (z, t.roll(-1, 1), real)), "Nobody predicts the first token"),
        (bits(following, everything), "padding is counted"),
        (bits(lambda z, t, real: (z[:, :-1], t[:, 1:], real[:, :-1])), "the mask is not shifted along"),
        (bits(lambda z, t, real: (z[:, :-1], t[:, 1:], t[:, 1:] != 0)), "every 0 is left out"),
        (bits(following, lambda s, counts: (s * counts).mean()), "still counted in the number"),
        (bits(following, of_texts), "mean of the texts' means"),
        (bits(following, lambda s, counts: (s * counts).sum() / (counts.sum() + len(s))), "number of all real tokens"),
        (bits(following, lambda s, counts: s[counts].sum()), "this is a sum"),
        (bits(following, unit=1), "these are nats"),
        (bits(following, unit=math.log(10)), "Bits are logarithms to base 2"),
        (lambda z, t, real: bits(following, unit=1)(z, t, real).exp(), "this is the perplexity"),
        (lambda *case: bits(following)(*case).item(), "no gradient flows through a number"),
    ],
    ex10.stored_divergence: [
        (outcomes(lambda q, t: q.gather(1, t), lambda kept, rest: kept), "the rest is left out"),
        (
            outcomes(lambda q, t: q.gather(1, t).log_softmax(1), lambda kept, rest: kept.log_softmax(1)),
            "both sides are renormalised",
        ),
        (outcomes(lambda q, t: q.gather(1, t), lambda kept, rest: kept.log_softmax(1)), "the teacher's kept"),
        (outcomes(lambda q, t: q.gather(1, t).log_softmax(1), lambda kept, rest: kept), "runs over the kept tokens"),
        (rest_divided, "divided equally"),
        (outcomes(with_average), "others are averaged"),
        (outcomes(with_subtracted()), "1 minus its kept probabilities"),
        (outcomes(with_subtracted(1e-8)), "a small number keeps the student's rest"),
        (added_outside, "used outside log space"),
        (partial(added_outside, least=1e-8), "a small number keeps the student's rest"),
        (partial(added_outside, least=torch.finfo(torch.float32).tiny), "a small number keeps the student's rest"),
        (with_distributions, "the divergence have to stay in log space"),
        (outcomes(with_rest, reverse=True), "the two are exchanged"),
        (
            lambda *case: (
                -(torch.cat([case[2], case[3][:, None]], 1).exp() * with_rest(case[0].log_softmax(1), case[1]))
                .sum(1)
                .mean()
            ),
            "this is the cross-entropy",
        ),
        (lambda *case: stored_from_logits(*case) / (case[1].shape[1] + 1), "a mean over the outcomes, too"),
        (lambda *case: kdlib.losses.sequences.top_k_kl(*case), "write it yourself"),
    ],
    ex10.mended_reverse: [
        (authors_reverse, "the value is right, but the weights are still cut off"),
        (reverse_without_gradient, "no gradient flows back"),
        (lambda z, t: reverse_with_probabilities(t, z), "this is KL(teacher ‖ student)"),
        (lambda z, t: reverse_with_probabilities(z, t) * len(z), "a sum over the places"),
        (lambda z, t: reverse_with_probabilities(z, t) / z.shape[1], "a mean over the symbols, too"),
        (lambda z, t: (z.softmax(1) * (z - t)).sum(1).mean(), "take `log_softmax` of both"),
        (lambda z, t: (z.softmax(1) * (z.softmax(1) / t.softmax(1)).log()).sum(1).mean(), "rounded to 0"),
        (
            lambda z, t: F.kl_div(t.log_softmax(1), z.log_softmax(1), log_target=True, reduction="batchmean"),
            "kl_div: write it yourself",
        ),
    ],
    ex10.text_loss: [
        (log_ratio, "the value is right, but its gradient is that of the log-ratio"),
        (lambda z, t, x: log_ratio(z.detach(), t, x), "no gradient flows back"),
        (live_product, "the ratio that weighs is not detached"),
        (only_one_detached, "nothing but noise"),
        (product, "the mean of the ratio times log q(x)"),
        (by_token(), "of that token alone"),
        (by_token(lambda ratio: ratio.flip(1).cumsum(1).flip(1)), "from that token on"),
        (by_token(lambda ratio: ratio.cumsum(1)), "up to that token"),
        (by_token(lambda ratio: -ratio.sum(1, keepdim=True)), "points the wrong way"),
        (by_token(lambda ratio: ratio.sum(1, keepdim=True) - ratio.sum(1).mean()), "is subtracted from the weights"),
        (by_token(lambda ratio: ratio.sum(1, keepdim=True), lambda found: found.mean()), "a mean over the tokens"),
        (by_token(lambda ratio: ratio.sum(1, keepdim=True), lambda found: found.sum()), "a sum over the texts"),
        (lambda z, t, x: -texts_by_hand(z, t, x), "turned round"),
        (at_each_place, "over all symbols at each place"),
        (lambda z, t, x: kdlib.losses.sequences.score_function_kl(z, t, x), "write it yourself"),
    ],
    ex10.mended_step: [
        (step(replaced=lambda p, q: (p - q).abs(), stops=False), "two things"),
        (step(replaced=lambda p, q: (p - q).abs()), "|p − q|"),
        (step(stops=False), "the loop goes on after a refusal"),
        (step(replaced=lambda p, q: p), "the refused token is replaced from p"),
        (step(replaced=lambda p, q: q), "draw from what p has more"),
        (step(replaced=lambda p, q: (q - p).clamp(min=0)), "draw from what p has more"),
        (step(lambda p, q, x, chance: chance < q[x] / p[x]), "upside down"),
        (step(lambda p, q, x, chance: chance < p[x]), "divide by it"),
        (step(lambda p, q, x, chance: p[x] >= q[x]), "makes no difference"),
        (step(lambda p, q, x, chance: p.argmax() == x), "greedy writing"),
        (step(last=None), "the target's call gives one more"),
        (step(last=lambda p, q: q[-1]), "comes from the draft"),
        (refused_left_out, "after a refusal nothing is drawn"),
        (most_probable, "the most probable token is taken"),
        (one_more_after_a_refusal, "after a refusal the target's last distribution"),
    ],
    ex10.fair_intervals: [
        (intervals(lambda steps, *costs: steps), "both intervals are at equal steps"),
        (
            intervals(lambda steps, label, taught, asking: math.ceil(steps * taught / label)),
            "spent before the first step is left out",
        ),
        (intervals(lambda steps, label, taught, asking: (asking + steps * taught) // label), "rounded down"),
        (intervals(lambda steps, label, taught, asking: round((asking + steps * taught) / label)), "rounded down"),
        (
            intervals(lambda steps, label, taught, asking: max(math.ceil(steps * label / taught), 1)),
            "the costs of the two steps are exchanged",
        ),
        (taught_cut, "is stopped earlier"),
        (
            intervals(lambda steps, label, taught, asking: math.ceil(steps * (asking + taught) / label)),
            "counted at every step",
        ),
        (
            intervals(read=lambda curves, count: curves[:, min(count, curves.shape[1] - 1)]),
            "after n steps it is column n − 1",
        ),
        (control_read_late, "after n steps it is column n − 1"),
        (intervals(read=lambda curves, count: curves[:, :count].amin(1)), "the best step of each curve"),
        (intervals(read=lambda curves, count: curves[:, :count].mean(1)), "averaged over their steps"),
        (intervals(spread=lambda a, b: (a.var() + b.var()).sqrt()), "the spreads of two arms"),
        (intervals(spread=lambda a, b: a.std() + b.std()), "two intervals, added"),
        (intervals(root=False), "lacks the division"),
        (intervals(spread=lambda a, b: (a - b).std(correction=0)), "Divide by S − 1"),
        (intervals(ends=lambda mean, half: (-mean - half, half - mean)), "the sign is reversed"),
        (intervals(ends=lambda mean, half: (mean, half)), "means and half-widths"),
        (lambda *case: intervals_in_lists(*case)[::-1], "the one at equal steps comes first"),
    ],
}

PAIRS = {
    ex10.mended_bits: [
        (bits(itself, everything), "the token that it has just read", "padding is counted"),
        (bits(itself, unit=1), "the token that it has just read", "these are nats"),
        (bits(following, of_texts, unit=1), "the texts' means", "these are nats"),
    ],
    ex10.stored_divergence: [
        (
            outcomes(lambda q, t: q.gather(1, t), lambda kept, rest: kept, reverse=True),
            "the rest is left out",
            "the two are exchanged",
        ),
    ],
    ex10.mended_reverse: [
        (lambda z, t: authors_reverse(z, t) * len(z), "a sum over the places"),
    ],
    ex10.text_loss: [
        (by_token(count=lambda found: found.mean()), "a mean over the tokens"),
    ],
    ex10.mended_step: [
        (
            step(replaced=lambda p, q: (p - q).abs(), stops=False),
            "|p − q|",
            "the loop goes on after a refusal",
        ),
        (step(lambda p, q, x, chance: chance < q[x] / p[x], last=None), "upside down", "gives one more"),
    ],
    ex10.fair_intervals: [
        (
            intervals(lambda steps, label, taught, asking: steps * taught // label),
            "rounded down",
            "is left out of the cost",
        ),
        (
            intervals(read=lambda curves, count: curves[:, :count].amin(1), root=False),
            "the best step of each curve",
            "lacks the division",
        ),
    ],
}
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
