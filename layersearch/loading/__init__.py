"""Turns a file into tables that can be trained on.

`loaded.py` reads, splits and scales the table. `start.py` reads the saved model that a search may start from; the
scaling of that model is then used instead of one fitted on the table.
"""
