"""Accelerators and clusters: what a plan is made for."""
