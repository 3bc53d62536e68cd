"""The names of devices, which are checked before torch is imported."""

import re

from sslens.errors import InputError

#: the kinds of devices that torch knows; which of them a machine has, torch says
KINDS = (
    *("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "maia", "ipu", "fpga", "hip", "ve"),
    *("xla", "lazy", "meta", "vulkan", "opencl", "opengl", "ideep", "mkldnn", "privateuseone"),
)
_NAME = re.compile(rf"auto|({'|'.join(KINDS)})(:\d+)?")


def require_device_name(name: str) -> None:
    """Refuse what is no name of a device; whether the machine has it is not asked.

    Raises:
        InputError: the name is none.

    >>> require_device_name("cuda:1")
    >>> require_device_name("gpu")
    Traceback (most recent call last):
    sslens.errors.InputError: There is no device "gpu": give auto, cpu, cuda or cuda:NUMBER.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f'There is no device "{name}": give auto, cpu, cuda or cuda:NUMBER.')
