"""The version of PyPI ``python3-gearman`` whose interface this is."""

__all__ = ["__version__"]

__version__: str = "0.1.0"
