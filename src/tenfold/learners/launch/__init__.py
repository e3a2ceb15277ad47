"""Processes of a run with learners: started here or by Slurm, kept alive, told what to do, stopped."""
