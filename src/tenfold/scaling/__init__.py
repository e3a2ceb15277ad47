"""Scaling laws: fit the small runs, forecast the large one with intervals that hold, and measure effective compute.

Numbers only: nothing here imports torch, so `tenfold predict --table` starts at once.
"""
