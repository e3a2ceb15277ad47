"""Faults on purpose: what they do, when they come, and the line that misbehaves."""
