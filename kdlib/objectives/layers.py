"""Layers of a module by name: what they give for a batch, and checks of their names before a run."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdlib.models import asking

Found = dict[str, list[tuple[Any, int]]]
"""For each layer, its outputs in the order of its calls, and how often each had been written to in place by then."""


class Layers:
    """Some layers of a module, named as ``nn.Module.named_modules`` names them.

    Hooks are on the layers inside :meth:`watched` only, so the module can be copied and saved at any other time.
    """

    def __init__(self, module: nn.Module, names: Sequence[str], whose: str) -> None:
        """Look up the layers.

        Args:
            module: the module; ``DataParallel`` around it is looked through.
            names: of layers.
            whose: "the student" or "the teacher", for errors.

        Raises:
            ValueError: there is no layer of this name, or the module is compiled, so that layers cannot be watched.
        """
        if any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in module.modules()):
            raise ValueError(
                f"layers of a compiled module cannot be watched: pass {whose} as it was before torch.compile"
            )
        there = dict(asking.plain(module).named_modules())
        self.names, self.whose = tuple(dict.fromkeys(names)), whose
        for name in self.names:
            if name not in there:
                raise ValueError(f"{whose} has no layer {name!r}; {_listed(name, [each for each in there if each])}")
        self.layers = {name: there[name] for name in self.names}
        self.overwritten: set[str] = set()
        """Layers whose output a later layer overwrites in place, such as ``nn.ReLU(inplace=True)``: copied at once."""

    @contextmanager
    def watched(self) -> Iterator[Found]:
        """Record the outputs of the layers inside the block, by name: for each call the output and its version."""
        found: Found = {name: [] for name in self.names}

        def hook_for(name: str) -> Any:
            def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
                copied = name in self.overwritten and isinstance(output, Tensor)
                output = output.clone() if copied else output
                found[name].append((output, _version(output)))

            return hook

        handles = [layer.register_forward_hook(hook_for(name)) for name, layer in self.layers.items()]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def features(self, found: Found, samples: int) -> dict[str, Tensor]:
        """The one output of each layer, at least in float32.

        Raises:
            TypeError: a layer gives something else than a floating-point tensor.
            ValueError: a layer was called several times, or not at all, or gives no row per sample.
        """
        features = {}
        for name, outputs in found.items():
            if len(outputs) != 1:
                hint = (
                    "such a layer has no single output: name one that is called once"
                    if outputs
                    else "name one that forward() calls"
                )
                raise ValueError(f"layer {name!r} of {self.whose} is called {len(outputs)} times in one pass; {hint}")
            output = outputs[0][0]
            if not isinstance(output, Tensor) or not output.is_floating_point():
                kind = f"{output.dtype} tensors" if isinstance(output, Tensor) else f"a {type(output).__name__}"
                inside = ", ".join(self._inside(name)) or "none"
                raise TypeError(
                    f"layer {name!r} of {self.whose} gives {kind}, and features must be one floating-point tensor: "
                    f"name a layer that gives one (inside it: {inside})"
                )
            if output.dim() < 2 or len(output) != samples:
                raise ValueError(
                    f"layer {name!r} of {self.whose} gives {list(output.shape)} for {samples} samples: features must "
                    f"have a row per sample, [{samples}, …]"
                )
            features[name] = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
        return features

    def probe(self, module: nn.Module, inputs: Any, samples: int, *, training: bool) -> dict[str, Tensor]:
        """The layers' features for a few samples, without a trace: modes, buffers and random numbers stay as they are.

        Args:
            module: the module that is called, with its wrapper.
            inputs: prepared.
            samples: how many.
            training: whether the module will be in train mode when it is watched.
        """
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        with asking.evaluating(module), torch.random.fork_rng(devices=[]), torch.no_grad():
            if training:
                module.train()
            try:
                with self.watched() as found:
                    asking.call(module, inputs)
                self.overwritten |= {
                    name for name, outputs in found.items() if any(_version(each) != seen for each, seen in outputs)
                }
                return self.features(found, samples)
            finally:
                for buffer, before in buffers:
                    buffer.copy_(before)

    def _inside(self, name: str) -> list[str]:
        return [f"{name}.{inner}" for inner, _ in self.layers[name].named_modules() if inner][:8]


def _version(output: Any) -> int:
    """How often a layer's output has been written to in place."""
    return output._version if isinstance(output, Tensor) and not output.is_inference() else 0


def _listed(wanted: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wanted, names, n=3)
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near and len(names) > 24 else ""
    shown = ", ".join(names[:24]) + (f" … ({len(names)} in all, see named_modules())" if len(names) > 24 else "")
    return f"{meant}it has {shown}"
