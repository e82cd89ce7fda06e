"""Whether somebody watches the parts of a module with forward hooks, which must see whole maps that nothing changes.

The same as backbones/hooks.py, because `eurgraph` is also installed alone.
"""

from torch import nn
from torch.nn.modules import module as registry


def parts_have_hooks(module: nn.Module) -> bool:
    """Whether any part of `module` has a forward hook, or all modules have one; those of `module` itself do not count.

    It runs in every block of a network, hence no generators.
    """
    if registry._global_forward_hooks or registry._global_forward_pre_hooks:
        return True
    for part in module._modules.values():
        if part is None:
            continue
        if part._forward_hooks or part._forward_pre_hooks or (part._modules and parts_have_hooks(part)):
            return True
    return False
