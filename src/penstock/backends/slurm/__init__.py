"""Jobs of a Slurm cluster: one ``sbatch --array`` a batch, one ``squeue`` a period for everybody."""

from penstock.backends.slurm.backend import SlurmBackend
from penstock.backends.slurm.commands import slurm_commands

__all__ = ["SlurmBackend", "slurm_commands"]
