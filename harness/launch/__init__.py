"""From one sweep to jobs on a launcher: this process, Slurm or Ray. The launchers run `heed run` with one job's overrides."""
