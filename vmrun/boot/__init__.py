"""Kernel image formats and boot protocols: bytes in, placements out."""
