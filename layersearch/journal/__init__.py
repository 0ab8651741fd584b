"""The journal keeps finished trainings on disk, so that a search can be resumed after any interruption.

`journal.py` opens the journal of a search and appends results to it, `records.py` defines the format of its lines, and
`checkpoints.py` keeps the states of unfinished trials. `identity.py` defines what two runs must have in common for one
to use the other's results. To add a field to a result, add it to `TrialResult` and to the fields in `records.py`.
"""
