"""`make bench`: how fast Quittance is on this machine, beside what its parts could do at most."""
