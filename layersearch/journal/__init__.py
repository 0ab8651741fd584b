"""The journal: what was trained already, kept on disk so that a search can be resumed after any interruption.

`journal.py` opens the journal of a search and appends results to it, `records.py` defines the format of its lines, and
`checkpoints.py` keeps the states of unfinished trials. `identity.py` says what two runs must have in common so that one
may use the other's results. A new field of a result is added to `TrialResult` and to the fields in `records.py`.
"""
