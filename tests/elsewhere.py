"""A device that is not there: tensors that say they are on it, and refuse to be mixed with those on the CPU.

For tests of who moves what where, on machines without a GPU. The numbers are computed on the CPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")
"""A kind of device that PyTorch knows by name; nothing of it is needed."""


class There(torch.Tensor):
    """A tensor that says it is on :data:`DEVICE`; ``held`` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE, requires_grad=held.requires_grad
        )
        made.held = held.detach()
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        with Elsewhere():
            return function(*arguments, **(options or {}))


class Elsewhere(TorchDispatchMode):
    """Inside, :data:`DEVICE` exists: tensors can be made there and moved there and back, and nothing else mixes."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = dict(options or {})
        wanted = options.pop("device", None)
        given = []
        tree_map(given.append, (arguments, options))
        tensors = [value for value in given if isinstance(value, torch.Tensor)]
        there = any(isinstance(value, There) for value in tensors)
        name = function.overloadpacket.__name__
        if there and name not in ("_to_copy", "copy_"):
            strangers = [value for value in tensors if not isinstance(value, There)]
            allowed = name in ("index", "index_select") or all(value.dim() == 0 for value in strangers)
            if not allowed:
                raise RuntimeError(f"{name}: expected all tensors to be on {DEVICE}, but found one on cpu")
        unwrapped = tree_map(lambda value: value.held if isinstance(value, There) else value, (arguments, options))
        result = function(*unwrapped[0], **unwrapped[1])
        if name == "copy_" or (name.endswith("_") and not name.startswith("_") and tensors):
            return arguments[0]
        to_there = torch.device(wanted).type == DEVICE.type if wanted is not None else there
        wrap = lambda value: There(value) if isinstance(value, torch.Tensor) else value  # noqa: E731
        return tree_map(wrap, result) if to_there else result


def moved_there(module):
    """The module with its weights and buffers on :data:`DEVICE`, in place."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    moved = There(tensor.detach())
                    held[name] = torch.nn.Parameter(moved) if held is part._parameters else moved
    return module
