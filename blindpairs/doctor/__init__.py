"""Checks the machine and the installation, and names the command that fixes each problem.

Promises: nothing here changes anything; every library is imported in a child process, so that one that crashes, hangs
or is incompatible with another is a finding and never ends the checks; each finding that can be fixed says how.

Read in this order: `finding` (the result of one check), `probes` (what a child process finds out about each library),
then the checks: `machine`, `libraries`, `mining`, `assets`. `examination` runs them all.
"""

from blindpairs.doctor.examination import examine
from blindpairs.doctor.finding import Finding

__all__ = ["Finding", "examine"]
