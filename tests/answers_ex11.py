"""Exercise 11: right answers in several styles pass, typical wrong ones are recognised by name."""

import math
from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kdcourse.checks import ex11


def saving_with_lists(teacher, student, foreign, practice, prompt, request, read, cached):
    constant = Counter(practice.tolist()).most_common(1)[0][0]

    def share(given):
        return sum(a == b for a, b in zip(given, teacher.tolist(), strict=True)) / len(teacher)

    kept = share(student.tolist()) - max(share(foreign.tolist()), share([constant] * len(teacher)))
    spent, requests = len(practice) * (prompt + request) + 3 * read, 1
    while not cached and requests * prompt < spent:
        requests += 1
    return kept, math.inf if cached else requests


def saving_with_tensors(teacher, student, foreign, practice, prompt, request, read, cached):
    constant = torch.full_like(teacher, practice.bincount().argmax())
    shares = (torch.stack((student, foreign, constant)) == teacher).double().mean(dim=1)
    spent = practice.numel() * (prompt + request) + read + 2 * read
    saved = 0 if cached else prompt
    return shares[0] - shares[1:].max(), -(-spent // saved) if saved else float("inf")


def saving_with_numpy(teacher, student, foreign, practice, prompt, request, read, cached):
    truth = teacher.numpy()
    values, counts = np.unique(practice.numpy(), return_counts=True)
    floor = np.maximum(np.mean(foreign.numpy() == truth), np.mean(truth == values[counts.argmax()]))
    kept = np.mean(student.numpy() == truth) - floor
    if cached:
        return [kept, np.inf]
    return [kept, np.ceil((len(practice) * (prompt + request) + 3 * read) / prompt)]


def distilled_by_rows(student_logits, teacher_logits, prompt_lengths, request_lengths):
    total, tokens = 0.0, 0
    for own, theirs, prompt, request in zip(
        student_logits, teacher_logits, prompt_lengths, request_lengths, strict=True
    ):
        p = theirs[prompt : prompt + request].log_softmax(dim=1)
        total = total + F.kl_div(own[:request].log_softmax(dim=1), p, reduction="sum", log_target=True)
        tokens += int(request)
    return total / tokens


def distilled_by_gather(student_logits, teacher_logits, prompt_lengths, request_lengths):
    _, length, classes = student_logits.shape
    steps = torch.arange(length)
    places = (prompt_lengths[:, None] + steps).clamp(max=teacher_logits.shape[1] - 1)
    theirs = teacher_logits.gather(1, places[..., None].expand(-1, -1, classes))
    kl = F.kl_div(student_logits.log_softmax(2), theirs.softmax(2), reduction="none").sum(2)
    mask = (steps < request_lengths[:, None]).to(kl.dtype)
    return (kl * mask).sum() / mask.sum()


def distilled_by_masks(student_logits, teacher_logits, prompt_lengths, request_lengths):
    read = torch.arange(teacher_logits.shape[1])
    theirs = (read >= prompt_lengths[:, None]) & (read < (prompt_lengths + request_lengths)[:, None])
    own = torch.arange(student_logits.shape[1]) < request_lengths[:, None]
    return F.kl_div(student_logits[own].log_softmax(1), teacher_logits[theirs].softmax(1), reduction="batchmean")


def answers(table, before, ids):
    read = torch.cat((before.expand(len(ids), -1, -1), table[ids]), dim=1)
    attends = (read @ read[:, -1:].mT / table.shape[1] ** 0.5).softmax(dim=1)
    return (attends * read).sum(dim=1) @ table.T


def vectors_by_hand(table, count, ids, targets, steps, lr):
    vectors = table[:count].clone().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(F.cross_entropy(answers(table, vectors, ids), targets), vectors)
        vectors = (vectors - lr * slope).detach().requires_grad_()
    return vectors.detach()


def vectors_of_a_copied_model(table, count, ids, targets, steps, lr):
    frozen = nn.Embedding.from_pretrained(table.clone())
    vectors = nn.Parameter(torch.empty(count, table.shape[1]))
    with torch.no_grad():
        vectors.copy_(table[:count])
    optimizer = torch.optim.SGD([vectors], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        said = answers(frozen.weight, vectors, ids).log_softmax(1)
        F.kl_div(said, targets, reduction="batchmean").backward()
        optimizer.step()
    return vectors.detach()


def vectors_by_functional(table, count, ids, targets, steps, lr):
    def loss(vectors):
        return -(targets * answers(table, vectors, ids).log_softmax(1)).sum(1).mean()

    vectors = table[torch.arange(count)]
    for _ in range(steps):
        vectors = vectors - lr * torch.func.grad(loss)(vectors)
    return vectors


def score_in_loops(examples, items, right):
    leaked, kept = 0, []
    for item, good in zip(items, right, strict=True):
        words, stands = item.casefold().split(), False
        for example in examples:
            shown = example.casefold().split()
            stands = stands or any(shown[at : at + len(words)] == words for at in range(len(shown)))
        leaked += stands
        if not stands:
            kept.append(good)
    return leaked, sum(kept) / len(kept) if kept else float("nan")


def score_with_one_text(examples, items, right):
    def normal(text):
        return " ".join(text.casefold().split())

    prompt = f" {' | '.join(map(normal, examples))} "
    fresh = [good for item, good in zip(items, right, strict=True) if f" {normal(item)} " not in prompt]
    return len(items) - len(fresh), float(np.mean(fresh)) if fresh else math.nan


def score_with_tensors(examples, items, right):
    def normal(text):
        return f" {' '.join(text.split()).casefold()} "

    leaks = torch.tensor([any(normal(item) in normal(one) for one in examples) for item in items])
    return leaks.sum(), torch.tensor(right, dtype=torch.float64)[~leaks].mean()


def compared_in_loops(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    read = []
    for lengths in (answer_lengths.tolist(), step_lengths.tolist()):
        used = texts = 0
        for length in lengths:
            if used + length > budget:
                break
            used, texts = used + length, texts + 1
        read.append(texts)
    gains = [b[read[1]] - a[read[0]] for a, b in zip(answer_scores.tolist(), step_scores.tolist(), strict=True)]
    mean = sum(gains) / len(gains)
    s = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
    return read[0], read[1], mean, quantile * s / math.sqrt(len(gains))


def compared_with_numpy(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    m, n = (np.searchsorted(one.numpy().cumsum(), budget, side="right") for one in (answer_lengths, step_lengths))
    gains = step_scores.double().numpy()[:, n] - answer_scores.double().numpy()[:, m]
    return m, n, gains.mean(), quantile * gains.std(ddof=1) / np.sqrt(gains.size)


def compared_with_tensors(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
    m = torch.searchsorted(answer_lengths.cumsum(0), budget, right=True)
    n = torch.searchsorted(step_lengths.cumsum(0), budget, right=True)
    gains = (step_scores[:, n] - answer_scores[:, m]).flatten()
    return m, n, gains.mean(), quantile * (gains.var() / len(gains)).sqrt()


RIGHT = {
    ex11.honest_saving: [saving_with_lists, saving_with_tensors, saving_with_numpy],
    ex11.mended_distillation: [distilled_by_rows, distilled_by_gather, distilled_by_masks],
    ex11.mended_vectors: [vectors_by_hand, vectors_of_a_copied_model, vectors_by_functional],
    ex11.fair_score: [score_in_loops, score_with_one_text, score_with_tensors],
    ex11.at_equal_tokens: [compared_in_loops, compared_with_numpy, compared_with_tensors],
}


def saving(*, floor=max, constant=None, asked=None, passes=3, each=None, never=math.inf, ends=math.ceil, against=None):
    """A reckoning with one of its steps replaced."""

    def reckoned(teacher, student, foreign, practice, prompt, request, read, cached):
        most = constant(teacher, student) if constant else practice
        shares = (
            (teacher == most.mode().values).float().mean().item(),
            ((student if against else teacher) == foreign).float().mean().item(),
        )
        kept = (student == teacher).float().mean().item() - floor(shares)
        spent = len(practice) * (asked(prompt, request) if asked else prompt + request) + passes * read
        after = ends(spent / (each(prompt, request) if each else prompt))
        return kept, (after if never is None else never) if cached else after

    return reckoned


def the_program(teacher, student, foreign, practice, prompt, request, read, cached):
    """What the notebook shows, with the arguments of the task."""
    return (student == teacher).float().mean().item(), math.ceil(read / prompt)


def all_that_the_server_reads(teacher, student, foreign, practice, prompt, request, read, cached):
    """What the student reads is not taken off; from the cache comes the prompt."""
    kept, _ = saving_with_lists(teacher, student, foreign, practice, prompt, request, read, cached)
    spent, server = len(practice) * (prompt + request) + 3 * read, request if cached else prompt + request
    return kept, math.ceil(spent / server)


def kappa(teacher, student, foreign, practice, prompt, request, read, cached):
    kept, after = saving_with_lists(teacher, student, foreign, practice, prompt, request, read, cached)
    agreed = (student == teacher).float().mean().item()
    return kept / (1 - (agreed - kept)), after


def distilled(*, starts=None, wide=None, over="tokens", loss=None):
    """A distillation with one of its steps replaced."""

    def lost(student_logits, teacher_logits, prompt_lengths, request_lengths):
        count, length, _ = student_logits.shape
        steps, longest = torch.arange(length), teacher_logits.shape[1]
        begins = starts(prompt_lengths, longest - length) if starts else prompt_lengths
        places = (torch.as_tensor(begins).view(-1, 1).expand(count, 1) + steps).clamp(0, longest - 1)
        theirs = teacher_logits[torch.arange(count)[:, None], places]
        kl = F.kl_div(student_logits.log_softmax(2), theirs.softmax(2), reduction="none").sum(2)
        if loss:
            kl = loss(student_logits, theirs)
        mask = steps < (wide(prompt_lengths, length) if wide else request_lengths).view(-1, 1)
        kl = kl * mask
        if over == "rows":
            return (kl.sum(1) / mask.sum(1)).mean()
        return kl.sum() / {"tokens": mask.sum(), "places": mask.numel(), "batch": count, "nothing": 1}[over]

    return lost


def authors_loss(student_logits, teacher_logits, prompt_lengths, request_lengths):
    theirs = teacher_logits[:, -student_logits.shape[1] :].log_softmax(dim=-1)
    return (theirs.exp() * (theirs - student_logits.log_softmax(dim=-1))).sum(dim=-1).mean()


def of_texts(student_logits, teacher_logits, prompt_lengths, request_lengths):
    """The rows are cut right, and each is weighed alike."""
    rows = []
    for own, theirs, p, r in zip(student_logits, teacher_logits, prompt_lengths, request_lengths, strict=True):
        rows.append(F.kl_div(own[:r].log_softmax(1), theirs[p : p + r].softmax(1), reduction="batchmean"))
    return torch.stack(rows).mean()


def vectors(
    *, share=False, train="vectors", begin=None, clear=True, reduction="mean", aims=None, more=0, by=torch.optim.SGD
):
    """A training with one of its steps replaced."""

    def trained(table, count, ids, targets, steps, lr):
        table = nn.Parameter(table.clone(), requires_grad=train != "vectors")
        start = begin(table.detach(), count) if begin else table.detach()[:count]
        own = nn.Parameter(start if share else start.clone())
        optimizer = by({"vectors": [own], "both": [own, table], "table": [table]}[train], lr)
        for _ in range(steps + more):
            if clear:
                optimizer.zero_grad()
            goal = aims(targets) if aims else targets
            F.cross_entropy(answers(table, own, ids), goal, reduction=reduction).backward()
            optimizer.step()
        return own.detach()

    return trained


def authors_vectors(table, count, ids, targets, steps, lr):
    vectors = nn.Parameter(table[:count])
    optimizer = torch.optim.SGD([vectors], lr=lr)
    for _ in range(steps):
        loss = F.cross_entropy(answers(table, vectors, ids), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return vectors.detach()


def score(*, normal=None, stands=None, count=None, among=None, empty=math.nan):
    """A score with one of its steps replaced."""
    normal = normal or (lambda text: " ".join(text.casefold().split()))
    stands = stands or (lambda item, example: f" {item} " in f" {example} ")

    def scored(examples, items, right):
        shown, asked = [normal(one) for one in examples], [normal(one) for one in items]
        leaks = [any(stands(item, example) for example in shown) for item in asked]
        leaked = sum(any(stands(item, one) for item in asked) for one in shown) if count else sum(leaks)
        kept = [good for good, leak in zip(right, leaks, strict=True) if (among(leak) if among else not leak)]
        return leaked, sum(kept) / len(kept) if kept else empty

    return scored


def the_look(examples, items, right):
    """What the notebook shows."""
    return sum(item in examples for item in items), sum(right) / len(items)


def the_joined(examples, items, right):
    prompt = "\n".join(examples).lower()
    rest = [good for item, good in zip(items, right, strict=True) if item.lower() not in prompt]
    return len(items) - len(rest), sum(rest) / len(rest) if rest else math.nan


def the_whole_prompt(examples, items, right):
    """All words of all examples, one after the other."""
    words = " ".join(examples).casefold().split()
    fresh = []
    for item, good in zip(items, right, strict=True):
        asked = item.casefold().split()
        if not any(words[at : at + len(asked)] == asked for at in range(len(words))):
            fresh.append(good)
    return len(items) - len(fresh), sum(fresh) / len(fresh) if fresh else math.nan


def in_this_order(item, example):
    """Other words may stand between them."""
    at, words = 0, example.split()
    for word in item.split():
        if word not in words[at:]:
            return False
        at = words.index(word, at) + 1
    return True


def leaks_as_wrong(examples, items, right):
    leaked = score_in_loops(examples, items, right)[0]
    points = [score_in_loops(examples, [item], [good])[1] for item, good in zip(items, right, strict=True)]
    return leaked, sum(point == 1 for point in points) / len(items)


def compared(*, read=None, texts=None, place=0, spread=None, root=True, ddof=1, middle=None):
    """A comparison with one of its steps replaced."""

    def gained(answer_lengths, step_lengths, answer_scores, step_scores, budget, quantile):
        def of(lengths):
            return read(lengths, budget) if read else int((lengths.cumsum(0) <= budget).sum())

        m, n = of(answer_lengths), of(step_lengths)
        if texts:
            m = n = texts(m, n)
        one, other = step_scores[:, n + place], answer_scores[:, m + place]
        s = spread(one, other) if spread else (one - other).std(correction=ddof)
        gain = middle(one, other) if middle else (one - other).mean()
        return m, n, gain, quantile * s / (len(one) ** 0.5 if root else 1)

    return gained


def greedy(lengths, budget):
    texts = used = 0
    for length in lengths.tolist():
        if used + length <= budget:
            texts, used = texts + 1, used + length
    return texts


WRONG = {
    ex11.honest_saving: [
        (the_program, "four things"),
        (saving(floor=lambda shares: 0), "nothing is taken off for the controls"),
        (saving(floor=lambda shares: shares[0]), "the other prompt's student is left out"),
        (saving(floor=lambda shares: shares[1]), "the constant answer is left out"),
        (saving(floor=min), "Take the larger"),
        (saving(floor=sum), "put together"),
        (saving(floor=lambda shares: sum(shares) / 2), "put together"),
        (saving(constant=lambda teacher, student: teacher), "comes from the *test*"),
        (saving(constant=lambda teacher, student: student), "comes from the *test*"),
        (saving(against="student"), "Compare both with the teacher"),
        (kappa, "Return the difference itself"),
        (saving(asked=lambda prompt, request: 0), "the teacher's tokens are not counted"),
        (saving(asked=lambda prompt, request: request), "*with the prompt*"),
        (saving(asked=lambda prompt, request: prompt), "its tokens count"),
        (saving(passes=1), "counts three times"),
        (saving(passes=2), "counts three times"),
        (saving(each=lambda prompt, request: prompt + request), "still reads the request"),
        (all_that_the_server_reads, "still reads the request"),
        (saving(each=lambda prompt, request: request), "not its own"),
        (saving(never=None), "not read anew"),
        (saving(never=0), "return `math.inf`"),
        (saving(ends=math.floor), "round up"),
        (saving(ends=lambda after: after), "round up"),
        (saving(ends=lambda after: math.floor(after) + 1), "round up"),
    ],
    ex11.mended_distillation: [
        (authors_loss, "two things"),
        (distilled(starts=lambda prompts, last: last), "from the end of each row"),
        (distilled(starts=lambda prompts, last: 0), "about the prompt's tokens"),
        (distilled(starts=lambda prompts, last: prompts.max()), "one prompt length"),
        (distilled(starts=lambda prompts, last: prompts[0]), "one prompt length"),
        (distilled(starts=lambda prompts, last: prompts - 1), "too early"),
        (distilled(starts=lambda prompts, last: prompts + 1), "too late"),
        (distilled(wide=lambda prompts, length: torch.full_like(prompts, length)), "padding is counted"),
        (distilled(wide=lambda prompts, length: prompts), "The request's does"),
        (distilled(over="places"), "padding adds nothing"),
        (distilled(over="rows"), "a token in a short request"),
        (of_texts, "a token in a short request"),
        (distilled(over="batch"), "batchmean"),
        (distilled(over="nothing"), "this is a sum"),
        (
            distilled(loss=lambda own, theirs: (own.softmax(2) * (own.log_softmax(2) - theirs.log_softmax(2))).sum(2)),
            "exchanged",
        ),
        (
            distilled(loss=lambda own, theirs: -(theirs.softmax(2) * own.log_softmax(2)).sum(2)),
            "this is the cross-entropy",
        ),
        (
            distilled(loss=lambda own, theirs: F.cross_entropy(own.mT, theirs.argmax(2), reduction="none")),
            "most probable answers",
        ),
        (
            distilled(
                loss=lambda own, theirs: F.kl_div(own.log_softmax(2), theirs.softmax(2), reduction="none").mean(2)
            ),
            "the number of classes",
        ),
    ],
    ex11.mended_vectors: [
        (authors_vectors, "changed its argument table in place"),
        (vectors(share=True), "shares its memory"),
        (lambda table, *case: authors_vectors(table.clone(), *case), "shares its memory"),
        (vectors(train="both"), "the vectors alone learn"),
        (vectors(train="table"), "Which tensors does the optimizer hold"),
        (vectors(begin=lambda table, count: table[-count:]), "begin with the first"),
        (vectors(begin=lambda table, count: torch.zeros_like(table[:count])), "begin with the first"),
        (vectors(clear=False), "gradients of earlier steps"),
        (vectors(reduction="sum"), "Take its mean"),
        (vectors(aims=lambda targets: targets.argmax(1)), "Use all probabilities"),
        (vectors(by=torch.optim.Adam), "the steps are Adam's"),
        (vectors(more=1), "one step too many"),
        (vectors(more=-1), "one step too few"),
    ],
    ex11.fair_score: [
        (the_look, "four things"),
        (score(normal=str, stands=str.__eq__), "three things"),
        (score(normal=lambda text: " ".join(text.split())), "capitals and small letters"),
        (score(normal=lambda text: " ".join(text.lower().split())), "`lower` leaves ß"),
        (score(normal=str.casefold), "tabs and line breaks"),
        (score(normal=lambda text: text.casefold().strip()), "tabs and line breaks"),
        (score(stands=lambda item, example: item in example), "Compare whole words"),
        (
            score(normal=lambda t: "".join(t.casefold().split()), stands=lambda item, example: item in example),
            "Compare whole words",
        ),
        (score(stands=str.__eq__), "look for the item *in* it"),
        (score(stands=lambda item, example: f"{example} ".startswith(f"{item} ")), "only at the beginning"),
        (score(stands=lambda item, example: example.split("=")[0].strip() == item), "only at the beginning"),
        (score(stands=lambda item, one: set(item.split()) <= set(one.split())), "one after the other, in this order"),
        (score(stands=in_this_order), "one after the other, in this order"),
        (the_whole_prompt, "begins in one example and ends in the next"),
        (score(count="examples"), "this counts examples"),
        (score(among=lambda leak: True), "Leave out those that leak"),
        (score(among=lambda leak: leak), "Take the others"),
        (leaks_as_wrong, "counted as wrong"),
        (score(empty=0.0), "return `math.nan`, not 0"),
    ],
    ex11.at_equal_tokens: [
        (compared(texts=min), "Each arm reads as many as fit for it"),
        (compared(texts=max), "far beyond the budget"),
        (compared(read=lambda lengths, budget: int(budget / lengths.float().mean())), "by a mean length"),
        (compared(read=lambda lengths, budget: int((lengths.cumsum(0) < budget).sum())), "It fits"),
        (compared(read=lambda lengths, budget: int((lengths.cumsum(0) < budget).sum()) + 1), "goes beyond the budget"),
        (compared(read=greedy), "is skipped"),
        (compared(read=lambda lengths, budget: len(lengths)), "both arms read all texts"),
        (compared(place=-1), "one text less"),
        (compared(spread=lambda one, other: (one.var() + other.var()).sqrt()), "seed by seed"),
        (compared(spread=lambda one, other: one.std() + other.std()), "seed by seed"),
        (compared(root=False), "lacks the division"),
        (compared(ddof=0), "Divide by S − 1"),
        (compared(middle=lambda one, other: one.max() - other.max()), "best seeds"),
        (compared(middle=lambda one, other: (one - other).median()), "the median"),
    ],
}

PAIRS = {
    ex11.honest_saving: [
        (saving(floor=lambda shares: 0, passes=1), "nothing is taken off", "counts three times"),
        (saving(never=None, each=lambda p, r: p + r), "not read anew", "still reads the request"),
        (saving(constant=lambda teacher, student: teacher, ends=math.floor), "from the *test*", "round up"),
    ],
    ex11.mended_distillation: [
        (authors_loss, "from the end of each row", "padding is counted"),
        (distilled(starts=lambda p, last: p - 1, over="rows"), "too early", "a token in a short request"),
    ],
    ex11.mended_vectors: [
        (vectors(share=True, reduction="sum"), "shares its memory", "Take its mean"),
        (vectors(train="both", clear=False), "the vectors alone learn", "gradients of earlier steps"),
    ],
    ex11.fair_score: [
        (score(normal=str.split, stands=lambda item, one: item == one), "as a whole", "capitals"),
        (the_joined, "`lower` leaves ß", "tabs and line breaks", "whole words"),
        (score(stands=lambda item, example: item in example, among=lambda leak: True), "whole words", "Leave out"),
        (score(stands=in_this_order, empty=0.0), "one after the other", "return `math.nan`"),
    ],
    ex11.at_equal_tokens: [
        (compared(texts=min, ddof=0), "Each arm reads", "Divide by S − 1"),
        (compared(read=greedy, root=False), "is skipped", "lacks the division"),
    ],
}
"""Two slips at once, with words of both sentences; without any, the answer only has to be refused."""
