"""The command line: everything that knows of arguments, signals and the terminal.

`arguments.py` parses, `values.py` reads the texts of single values, `faults.py` finds what is wrong, and `request.py`
turns the result into options by stage: argparse's Namespace ends there. `announce.py` says what was read,
`interruption.py` handles Ctrl-C. `listing.py`, `encode.py` and `download.py` are commands of their own; `library.py` is
the command from Python. A new option is declared in `layersearch/options.py`, and checked in `faults.py` where its
bounds do not say all.
"""
