"""Carrying a search out: strategies, their trainings, and the progress on the console.

`strategies.py` holds the strategies (grid, random, successive halving) and follows them batch by batch; `bayesian.py`
holds the one that needs Optuna. `running.py` makes the strategy that was asked for and shows its progress
(`progress.py`); `history.py` records which loss was reached after how much training. A new strategy is a generator of
batches in `strategies.py`, or in a file of its own, and a line in `running._strategy`.
"""
