"""Plant faults in a copy of the library, one at a time, and show which test or lesson catches each.

A fault nobody notices means a test that cannot fail. Exits 1 if one survives.

    python tools/mutants.py [NAME ...]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTED = (
    "losses",
    "objectives",
    "teachers",
    "train",
    "loop",
    "compare",
    "metrics",
    "cost",
    "shifts",
    "curves",
    "scorecards",
    "devices",
    "zoo",
    "studies",
    "hinton",
    "feature_losses",
    "features",
    "feature_study",
    "many_teachers",
    "quantising",
    "pruning",
    "exporting",
    "shrunk_study",
    "text",
    "tokens",
    "speculative",
    "language_study",
    "prompts",
    "prompt_studies",
    "sequence_losses",
    "sequences",
    "embeddings",
    "encoders",
)
TESTS = tuple(f"tests/test_{name}.py" for name in TESTED)


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "T squared dropped",
        "kdlib/losses/soft.py",
        "return shared.mean_over_positions(values, mask, reduction) * float(temperature) ** 2",
        "return shared.mean_over_positions(values, mask, reduction) * 1.0",
    ),
    Mutant(
        "KL's arguments exchanged",
        "kdlib/losses/soft.py",
        "divergence = expectation(log_p, log_p - log_q)",
        "divergence = expectation(log_q, log_q - log_p)",
    ),
    Mutant(
        "KL divided by the classes too",
        "kdlib/losses/shared.py",
        "return values.sum() / count",
        "return values.sum() / count / 10",
    ),
    Mutant(
        "alpha on the wrong term",
        "kdlib/losses/distillation.py",
        '{"loss": alpha * soft_term + (1 - alpha) * hard_term,',
        '{"loss": (1 - alpha) * soft_term + alpha * hard_term,',
    ),
    Mutant(
        "temperature for the student only",
        "kdlib/losses/soft.py",
        "return shared.over_temperature(student, temperature), shared.over_temperature(teacher, temperature)",
        "return shared.over_temperature(student, temperature), shared.widened(teacher)",
    ),
    Mutant(
        "squared logits not centred",
        "kdlib/losses/soft.py",
        "(difference - difference.mean(dim=-1, keepdim=True)).square()",
        "difference.square()",
    ),
    Mutant(
        "low precision not widened",
        "kdlib/losses/shared.py",
        "return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits",
        "return logits",
    ),
    Mutant(
        "a class axis said but not used",
        "kdlib/losses/shared.py",
        "return logits if dim in (-1, len(shape) - 1) else logits.movedim(dim, -1)",
        "return logits",
    ),
    Mutant(
        "the teacher learns too",
        "kdlib/losses/soft.py",
        'shared.classes_last("teacher_logits", teacher, dim, classes=classes).detach()',
        'shared.classes_last("teacher_logits", teacher, dim, classes=classes)',
    ),
    Mutant(
        "rounding below zero kept",
        "kdlib/losses/soft.py",
        "values = values - values.detach().clamp(max=0.0)",
        "values = values + 0.0",
    ),
    Mutant(
        "masked positions in the count",
        "kdlib/losses/shared.py",
        "counted.sum().clamp(min=1)",
        "counted.numel()",
    ),
    Mutant(
        "unlabelled positions weaken the hard term",
        "kdlib/losses/distillation.py",
        "losses * counted.sum() / labelled.sum().clamp(min=1) if options else losses",
        "losses",
    ),
    Mutant(
        "cached logits looked up by position in the batch",
        "kdlib/objectives/teacher_answers.py",
        "return lambda batch: logits[place[batch.index]]",
        "return lambda batch: logits[: len(batch.index)]",
    ),
    Mutant(
        "cache written in another order",
        "kdlib/data/splits.py",
        "table[self.index.to(values.device)] = values",
        "table[self.index.to(values.device).flip(0)] = values",
    ),
    Mutant(
        "teacher left in train mode",
        "kdlib/objectives/teacher_answers.py",
        "    with models.evaluating(asked.model):\n        yield",
        "    with models.evaluating(run.student):\n        asked.model.train()\n        yield",
    ),
    Mutant(
        "teacher computes gradients",
        "kdlib/objectives/teacher_answers.py",
        "with torch.no_grad(), self.run.machine.autocast():",
        "with self.run.machine.autocast():",
    ),
    Mutant(
        "teacher sees another view",
        "kdlib/objectives/teacher_answers.py",
        "self.ask(inputs)",
        "self.ask(inputs.flip(0))",
    ),
    Mutant(
        "student shares its teacher's weights",
        "kdlib/objectives/teacher_answers.py",
        "    if shared:\n",
        "    if False:\n",
    ),
    Mutant(
        "student left in eval mode",
        "kdlib/training/loop.py",
        "            in_train_mode()\n",
        "            model.eval() if state.history else in_train_mode()\n",
    ),
    Mutant(
        "modes not restored after validation",
        "kdlib/models/asking.py",
        "            module.training = training\n",
        "            pass\n",
    ),
    Mutant(
        "order forgotten by the seed",
        "kdlib/training/views.py",
        'generator("order", seed, epoch)',
        'generator("order", 0, 0)',
    ),
    Mutant(
        "schedule not stepped", "kdlib/training/loop.py", "            state.scheduler.step()\n", "            pass\n"
    ),
    Mutant(
        "gradients not cleared", "kdlib/training/loop.py", "        state.optimizer.zero_grad()\n", "        pass\n"
    ),
    Mutant(
        "best epoch not restored",
        "kdlib/training/loop.py",
        "        asking.plain(model).load_state_dict(state.best)\n",
        "        pass\n",
    ),
    Mutant(
        "optimizer's state not resumed",
        "kdlib/training/checkpoint.py",
        "        state.optimizer.load_state_dict(optimizer)\n",
        "",
    ),
    Mutant(
        "checkpoint of another run accepted",
        "kdlib/training/checkpoint.py",
        "if changes := _differences(there, here, old):",
        "if changes := []:",
    ),
    Mutant(
        "optimizer over another model accepted",
        "kdlib/training/optimizing.py",
        "    if held != {id(parameter) for parameter in parameters}:\n",
        "    if False:\n",
    ),
    Mutant(
        "NaN goes unnoticed",
        "kdlib/training/epoch_figures.py",
        'elif not math.isfinite(figures["loss"]):',
        "elif False:",
    ),
    Mutant(
        "unpaired runs compared",
        "kdlib/judging/compare.py",
        'if different := [key for key in (*PAIRED, "precision") if ours.get(key) != theirs.get(key)]:',
        "if different := []:",
    ),
    Mutant(
        "interval of a normal, not of t",
        "kdlib/judging/intervals.py",
        "stats.t.ppf((1 + confidence) / 2, n - 1)",
        "stats.norm.ppf((1 + confidence) / 2)",
    ),
    Mutant(
        "precision and recall exchanged",
        "kdlib/judging/metrics.py",
        '{"precision": answers, "recall": samples,',
        '{"precision": samples, "recall": answers,',
    ),
    Mutant("calibration error not weighted", "kdlib/judging/metrics.py", '.abs() * table["samples"]', ".abs()"),
    Mutant(
        "confidence of one in a bin of its own",
        "kdlib/judging/metrics.py",
        "torch.bucketize(confidence.clamp(0, 1), edges[1:-1])",
        "torch.bucketize(confidence, edges[1:], right=True)",
    ),
    Mutant(
        "divergence the other way round",
        "kdlib/judging/metrics.py",
        "losses.forward_kl(student.logits, teacher.logits, reduction=reduction)",
        "losses.forward_kl(teacher.logits, student.logits, reduction=reduction)",
    ),
    Mutant(
        "student and teacher resampled apart",
        "kdlib/judging/metrics.py",
        "*_counts(first[rows], second[rows], predicted.classes)",
        "*_counts(first[rows], second[np.random.permutation(rows)], predicted.classes)",
    ),
    Mutant(
        "calibration temperature fitted on test",
        "kdlib/judging/scorecards.py",
        "held_out = metrics.predictions(model, data.validation, data.normalise, classes=data.classes)",
        "held_out = predicted",
    ),
    Mutant(
        "a control of any accuracy",
        "kdlib/judging/scorecards.py",
        "    if abs(of_teacher - of_control) > CONTROL_MARGIN * len(teacher):\n",
        "    if False:\n",
    ),
    Mutant(
        "operations counted in train mode",
        "kdlib/judging/cost.py",
        "with _nothing_fused(), models.evaluating(module), uncounted, counter:",
        "with _nothing_fused(), uncounted, counter:",
    ),
    Mutant(
        "fused attention costs nothing",
        "kdlib/judging/cost.py",
        "    torch.backends.mha.set_fastpath_enabled(False)\n",
        "",
    ),
    Mutant(
        "inputs stay where they are when operations are counted",
        "kdlib/judging/cost.py",
        "    inputs = asking.moved(inputs, asking.device_of(module))\n",
        "",
    ),
    Mutant(
        "every model its own noise",
        "kdlib/judging/shifts.py",
        'torch.randn(images.shape, generator=generator("noise", 0))',
        "torch.randn(images.shape)",
    ),
    Mutant(
        "the power law falls below its asymptote",
        "kdlib/judging/curves.py",
        "bounds=([0, 0, 0], [1, 2, 5])",
        "bounds=([-1, 0, 0], [1, 2, 5])",
    ),
    Mutant("a changed teacher accepted", "kdlib/teachers/__init__.py", "if digest != CHECKSUMS[name]:", "if False:"),
    Mutant(
        "a teacher of other classes accepted",
        "kdlib/teachers/__init__.py",
        'if tuple(run["classes"]) != data.classes:',
        "if False:",
    ),
    Mutant("rows made under other conditions mixed in", "kdcourse/studies/ledger.py", "if there != here:", "if False:"),
    Mutant(
        "max-norm on the wrong side",
        "kdcourse/studies/hinton.py",
        "renorm_(p=2, dim=0, maxnorm=limit)",
        "renorm_(p=2, dim=1, maxnorm=limit)",
    ),
    Mutant(
        "the bias chosen on test",
        "kdcourse/studies/hinton.py",
        "best_bias(validation, shift)",
        "best_bias(test, shift)",
    ),
    Mutant(
        "a run's answers in another order",
        "kdlib/objectives/recorded.py",
        "place[split.index] = torch.arange(",
        "place[split.index.flip(0)] = torch.arange(",
    ),
    Mutant(
        "a teacher's classes not matched by name",
        "kdlib/objectives/teacher_answers.py",
        "asking.in_order(outputs, self.known, self.columns)",
        "outputs",
    ),
    Mutant(
        "a teacher's own preparation ignored",
        "kdlib/objectives/teacher_answers.py",
        "inputs = batch.inputs if self.prepare == self.run.normalise else self.prepare(batch.raw)",
        "inputs = batch.inputs",
    ),
    Mutant(
        "a flipped bit accepted",
        "kdlib/files.py",
        'if digest_of(tensors, metadata[key]) != metadata["sha256"]:',
        "if False:",
    ),
    Mutant(
        "an untrained teacher not noticed",
        "kdlib/objectives/teacher_checks.py",
        "if agreement - chance < 0.05 * (1 - chance):",
        "if False:",
    ),
    Mutant(
        "an objective's parameters left out",
        "kdlib/training/optimizing.py",
        "    parameters = [*own, *brought]\n",
        "    parameters = own\n",
    ),
    Mutant(
        "averaged weights not kept",
        "kdlib/objectives/averaging.py",
        "        self.student.load_state_dict(self.average.module.state_dict())\n",
        "        pass\n",
    ),
    Mutant(
        "a hint's projector left out of the optimizer",
        "kdlib/objectives/features.py",
        "            *(parameter for parameter in self.regressors.parameters() if parameter.requires_grad),\n",
        "",
    ),
    Mutant(
        "a hint divided by the units",
        "kdlib/losses/features/hints.py",
        'reduction="sum") / (2 * len(student))',
        'reduction="sum") / (2 * student.numel())',
    ),
    Mutant(
        "attention averaged over positions",
        "kdlib/losses/features/attention.py",
        "torch.linalg.vector_norm(unit(ours.flatten(1)) - unit(theirs.flatten(1)), dim=1).mean()",
        "(unit(ours.flatten(1)) - unit(theirs.flatten(1))).square().mean()",
    ),
    Mutant(
        "Holm's p-values may fall",
        "kdcourse/studies/verdicts.py",
        "        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))\n",
        "        largest = min(1.0, (len(order) - rank) * p_values[place])\n",
    ),
    Mutant(
        "a shuffled control that is not shuffled",
        "kdcourse/studies/features.py",
        "return split.by_index(table[split.index][order])",
        "return table",
    ),
    Mutant(
        "an ensemble without its temperature",
        "kdlib/objectives/ensembles.py",
        "logs = [(each / temperature).log_softmax(-1) + math.log(s)",
        "logs = [each.log_softmax(-1) + math.log(s)",
    ),
    Mutant(
        "a peer is taught by its own lesson",
        "kdlib/objectives/mutual.py",
        "peers = [z.detach() for other",
        "peers = [z for other",
    ),
    Mutant(
        "the mean teacher is the student",
        "kdlib/objectives/mean_teacher.py",
        "get_ema_multi_avg_fn(settings.decay)",
        "get_ema_multi_avg_fn(0.0)",
    ),
    Mutant(
        "sizes of a pruned model not stored",
        "kdlib/models/recipes.py",
        'return {**recipe, "sizes": {**recipe.get("sizes", {}), **changed}} if changed else recipe',
        "return recipe",
    ),
    Mutant(
        "one grid for all channels",
        "kdlib/models/quantised.py",
        "torch.fake_quantize_per_channel_affine(self.weight, self.weight_step, zero, 0, low, high)",
        "torch.fake_quantize_per_tensor_affine(self.weight, self.weight_step.max(), zero[0], low, high)",
    ),
    Mutant(
        "grids chosen on validation images",
        "kdlib/shrinking/quantising.py",
        "return data.train.select(places).inputs",
        "return data.validation.inputs",
    ),
    Mutant(
        "random channels pruned instead of the smallest",
        "kdlib/shrinking/pruning.py",
        '    if choose == "random":\n',
        "    if True:\n",
    ),
    Mutant(
        "an optimizer made before pruning accepted",
        "kdlib/training/optimizing.py",
        "if held != {id(parameter) for parameter in parameters}:",
        "if len(held) != len(parameters):",
    ),
    Mutant(
        "an exported file's answers not compared",
        "kdlib/shrinking/exporting.py",
        "if not difference <= accepted * scale:",
        "if False:",
    ),
    Mutant(
        "scratch at equal operations given no more epochs",
        "kdcourse/studies/shrunk.py",
        "count_parameters(small(share, 0)))",
        "count_parameters(small(0, 0)))",
    ),
    Mutant(
        "int8 kept at any loss",
        "kdlib/shrinking/runtime_int8.py",
        'if row["errors"] - errors <= most_lost / 100 * len(labelled)]',
        "]",
    ),
    Mutant(
        "targets that are not shifted",
        "kdlib/data/text/windows.py",
        "inputs.append(F.pad(document[:-1], (1, rest), value=start))",
        "inputs.append(F.pad(document, (0, rest), value=start))",
    ),
    Mutant(
        "padding of windows counted",
        "kdlib/data/text/windows.py",
        "targets.append(F.pad(document, (0, rest), value=IGNORED))",
        "targets.append(F.pad(document, (0, rest), value=start))",
    ),
    Mutant(
        "the weights of Jensen and Shannon exchanged",
        "kdlib/losses/sequences/divergences.py",
        "divergence = beta * expectation(log_p, log_p - log_m) + (1 - beta) * expectation(log_q, log_q - log_m)",
        "divergence = (1 - beta) * expectation(log_p, log_p - log_m) + beta * expectation(log_q, log_q - log_m)",
    ),
    Mutant(
        "the rest of the top k taken as 1 minus what is kept",
        "kdlib/losses/sequences/parts.py",
        "return ids, kept, log_p.scatter(-1, ids, -torch.inf).logsumexp(dim=-1)",
        "return ids, kept, (1 - kept.exp().sum(dim=-1)).log()",
    ),
    Mutant(
        "the score function without its score",
        "kdlib/losses/sequences/log_ratios.py",
        "return (ratio + ratio * (log_q - log_q.detach())).mean()",
        "return (ratio + log_q - log_q.detach()).mean()",
    ),
    Mutant(
        "an own text counted one token late",
        "kdlib/objectives/sequences/on_policy.py",
        "whole & (place >= prompt - 1)",
        "whole & (place >= prompt)",
    ),
    Mutant(
        "a refused draft drawn again from the target",
        "kdlib/models/tokens/drafting.py",
        "rest = (p - q).clamp(min=0)",
        "rest = p.clone()",
    ),
    Mutant(
        "what was refused is not forgotten",
        "kdlib/models/tokens/drafting.py",
        "self.cache.length = min(self.cache.length, length)",
        "self.cache.length = self.cache.length",
    ),
    Mutant(
        "a rate chosen by the worst trial",
        "kdcourse/studies/language.py",
        "best[name] = min(tried",
        "best[name] = max(tried",
    ),
    Mutant(
        "a search whose ties count for it",
        "kdcourse/sentences/__init__.py",
        "return (found >= found.diagonal()[:, None]).sum(dim=1)",
        "return 1 + (found > found.diagonal()[:, None]).sum(dim=1)",
    ),
    Mutant(
        "a text that is its own neighbour",
        "kdcourse/sentences/__init__.py",
        "return cosines(vectors, vectors).fill_diagonal_(-2).topk(NEAREST).indices",
        "return cosines(vectors, vectors).topk(NEAREST).indices",
    ),
    Mutant(
        "test texts that students read elsewhere",
        "kdcourse/sentences/__init__.py",
        'set() if part == "train" else {*described("train").texts, *others()}, Counter()',
        "set(), Counter()",
    ),
    Mutant(
        "a stranger's weights loaded unchecked",
        "kdlib/teachers/sentences.py",
        "if (digest := hashlib.sha256(content).hexdigest()) != FILES[name]:",
        "if (digest := hashlib.sha256(content).hexdigest()) == name:",
    ),
    Mutant(
        "a cache that looks ahead",
        "kdlib/models/tokens/transformer.py",
        "dtype=torch.bool, device=device).tril(before)",
        "dtype=torch.bool, device=device).tril(before + 1)",
    ),
    Mutant(
        "a prompted teacher whose answers are the prompt's",
        "kdlib/models/tokens/prompts.py",
        "return self.model(torch.cat((self.prompt.expand(len(ids), -1), ids), dim=1))[:, len(self.prompt) :]",
        "return self.model(torch.cat((self.prompt.expand(len(ids), -1), ids), dim=1))[:, : ids.shape[1]]",
    ),
    Mutant(
        "a soft prompt whose model learns, too",
        "kdlib/models/tokens/prompts.py",
        "self.model = deepcopy(model).eval().requires_grad_(False)",
        "self.model = deepcopy(model).eval()",
    ),
    Mutant(
        "a change of low rank that is not 0 at first",
        "kdlib/models/adapters.py",
        "self.up = nn.Parameter(weight.new_zeros(out, rank))",
        "self.up = nn.Parameter(weight.new_ones(out, rank))",
    ),
    Mutant(
        "a slip that is not carried on",
        "kdcourse/studies/rationales.py",
        "carry, answer = total // 10,",
        "carry, answer = (int(top) + int(bottom) + carry) // 10,",
    ),
    Mutant(
        "vectors that cost nothing",
        "kdcourse/studies/prompting.py",
        "(self.passes * (WORD + self.vectors))",
        "(self.passes * WORD)",
    ),
)


def caught_by(mutant: Mutant) -> str | None:
    """The first test or lesson that fails on a copy of the library with the fault, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("kdlib", "kdcourse", "tests", "notebooks", "pyproject.toml", "tools"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        path = copy / mutant.file
        text = path.read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1, f"{mutant.name} has no place in {mutant.file}"
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(copy), "KDLIB_SOURCE": "offline", "KDLIB_PROGRESS": "0"}
        for arguments in (TESTS, ("--nbval", "--nbval-current-env", "notebooks")):
            tests = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *arguments]
            run = subprocess.run(tests, cwd=copy, env=environment, capture_output=True, text=True)
            if run.returncode == 1:
                return re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.M).group(1)
            if run.returncode != 0:
                raise RuntimeError(f"the tests did not run:\n{run.stdout}\n{run.stderr}")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which faults; without it, all")
    names = parser.parse_args().names
    survivors = 0
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        caught = caught_by(mutant)
        survivors += caught is None
        print(f"{'SURVIVED' if caught is None else 'caught  '} {mutant.name:50} {caught or ''}", flush=True)
    print(f"{survivors} of {len(MUTANTS)} faults survived")
    return int(survivors > 0)


if __name__ == "__main__":
    raise SystemExit(main())
