"""The version of PyPI ``gearman`` whose interface this is."""

__all__ = ["__version__"]

__version__: str = "2.0.2"
