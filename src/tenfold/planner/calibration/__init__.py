"""Measured runs: read from tables, fitted by the few constants of the cost model, and forecast to judge it."""
