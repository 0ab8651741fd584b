"""The verdict: does the best measured configuration really win, and what else follows from the results of a search?

`evidence.py` estimates the errors of the measured losses, and `uncertainty.py` derives intervals and the confidence set
of the best from them; it decides what is tied. `verdict.py` puts these together and defines the words best measured,
tied, recommended and proven. `baselines.py` has what a configuration should beat, `probe.py` asks whether longer
training would change the result, and `study.py` estimates the effects of training options. `conclusion.py` calls them
in this order. A new statistic starts in `uncertainty.py`, with a test of its coverage as in `tests/verdict`.
"""
