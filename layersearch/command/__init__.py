"""The command line: arguments, signals and messages on the terminal.

`arguments.py` parses the command line, `values.py` parses single values, `faults.py` finds invalid arguments, and
`request.py` converts argparse's Namespace into options by stage. `announce.py` describes the table that was read, and
`interruption.py` handles Ctrl-C. `listing.py`, `encode.py` and `download.py` implement commands other than a search;
`library.py` implements the Python interface. To add an option, declare it in `layersearch/options.py`, and if its
bounds depend on other options, check it in `faults.py`.
"""
