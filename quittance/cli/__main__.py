"""`python -m quittance.cli`, where the program is not on PATH."""

from quittance.cli import main

main()
