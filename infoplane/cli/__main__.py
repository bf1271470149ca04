"""python -m infoplane.cli"""

from . import main

main()
