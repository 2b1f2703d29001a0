"""What mz knows of networks and targets: the YAML hierarchy in `cfg/`, validated into structs, and the bundled files.

Names load at once; everything else (msgspec, yaml) is imported by the first call that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mz.zoo.locate import bundled_root, config_root, hw_arch_names, network_names

if TYPE_CHECKING:
    from mz.zoo.networks import from_dict, load_hw_arch, load_network, model_path, script_path, to_dict
    from mz.zoo.schema import DatasetSpec, HwArch, NetworkConfig, Preprocessing

__all__ = [
    "DatasetSpec",
    "HwArch",
    "NetworkConfig",
    "Preprocessing",
    "bundled_root",
    "config_root",
    "from_dict",
    "hw_arch_names",
    "load_hw_arch",
    "load_network",
    "model_path",
    "network_names",
    "script_path",
    "to_dict",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mz.zoo import networks, schema

    return getattr(networks if hasattr(networks, name) else schema, name)
