"""Helpers of the bytes flavour."""

from geartrain.compat.shared.util import Stopwatch, disambiguate_server_parameter, unlist

__all__ = ["Stopwatch", "disambiguate_server_parameter", "unlist"]
