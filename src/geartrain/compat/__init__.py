"""
python-gearman's interface: an existing program runs after replacing its import, or after :func:`install`.

:mod:`geartrain.compat.gearman` is PyPI ``gearman`` 2, continued by ``pygearman`` and ``gearman3``, where tasks, handles
and data are bytes. :mod:`geartrain.compat.python3_gearman` is ``python3-gearman``, where they are text.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Final

__all__ = ["install"]

_MODULES: Final = (
    "admin_client",
    "client",
    "connection",
    "connection_manager",
    "constants",
    "errors",
    "job",
    "util",
    "version",
    "worker",
)


def install() -> None:
    """
    Register both packages in ``sys.modules``, so that ``import gearman`` and ``import python3_gearman`` find them.

    Call it before anything imports these names.

    Raises:
        ImportError: If another package of one of these names has been imported already. Nothing is registered then.
    """
    modules: dict[str, ModuleType] = {}
    for package in ("gearman", "python3_gearman"):
        modules[package] = import_module(f"{__name__}.{package}")
        for name in _MODULES:
            modules[f"{package}.{name}"] = import_module(f"{__name__}.{package}.{name}")
    for name, module in modules.items():
        if (other := sys.modules.get(name, module)) is not module:
            where = getattr(other, "__file__", None) or "another place"
            raise ImportError(f"{name} was imported from {where} already; call geartrain.compat.install() earlier")
    sys.modules.update(modules)
