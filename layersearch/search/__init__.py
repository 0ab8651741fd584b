"""The search: its strategies, the trainings that they request, and the progress on the console.

`strategies.py` defines the strategies grid, random and successive halving and trains the batches that they request;
`bayesian.py` defines the one that needs Optuna. `running.py` chooses the strategy and shows its progress
(`progress.py`); `history.py` records the loss reached after each amount of training. To add a strategy, write a
generator of batches in `strategies.py` or a new file, and a line in `running._strategy`.
"""
