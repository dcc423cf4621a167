"""Jobs of an HTCondor pool: one ``queue N`` a batch, one ``condor_q`` a period for everybody."""

from penstock.backends.htcondor.acting import Acting
from penstock.backends.htcondor.backend import HTCondorBackend
from penstock.backends.htcondor.build import make_htcondor
from penstock.backends.htcondor.commands import condor_commands

__all__ = ["Acting", "HTCondorBackend", "condor_commands", "make_htcondor"]
