"""Run the command line as `python -m infoplane.cli`."""

from . import main

main()
