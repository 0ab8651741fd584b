"""From a file to tables that can be trained on.

`loaded.py` reads, splits and scales the table; `start.py` reads the saved model that a search may start from, whose
scaling then goes before the table's own.
"""
