"""One optimisation step, the loop around it, and everything a run needs to survive. Newcomers start at step.py."""
