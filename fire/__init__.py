"""Faults injected into the real processes and servers under a steady stream, and what became of every accepted event."""
