"""Boards: a manifest and what the host offers become a MachinePlan."""
