"""Who comes in: doors translate and nothing else."""
