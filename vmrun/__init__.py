"""vmrun: virtual machines that stand in git."""

__version__ = "0.1.0"
