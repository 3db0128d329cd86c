"""Runs as jobs of SLURM: the script of one, and what `sbatch` and `squeue` say. A job runs `msa` as a user would."""
