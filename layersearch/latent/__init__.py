"""Analyses the latent space of a trained autoencoder, and encodes tables with it.

- `codes.py`: latent codes and reconstruction errors of any number of rows, for `--encode`.
- `space.py`: which columns each latent dimension follows, and how much of each column is reconstructed.
- `agreement.py`: how well the latent space agrees with labels; without labels, how many clusters it has.
- `labels.py` and `density.py`: labels as categories, and densities of points, for these modules and the pictures.
- `findings.py`: all that the report says about the latent space of the best model.
- `ensemble.py`: many trained models used as one (`--ensemble`).

To add a number about the latent space, add a function to `space.py` or `agreement.py` and call it in `findings.py`.
"""
