"""What is left of a run with learners: its merge log, the history of each process, and the run executed again."""
