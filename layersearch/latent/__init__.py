"""What a trained autoencoder makes of a table, in numbers.

- `codes.py`: latent codes and reconstruction errors of any number of rows, for `--encode`.
- `space.py`: which columns each latent dimension follows, and how much of each column is reconstructed.
- `agreement.py`: how well the latent space agrees with labels; without labels, how many clusters it has.
- `labels.py` and `density.py`: labels as categories, and densities of points, for the above and for the pictures.
- `findings.py`: everything that the report says about the latent space of the best model.
- `ensemble.py`: many trained models used as one (`--ensemble`).

A new number about the latent space gets a function in `space.py` or `agreement.py` and a call in `findings.py`.
"""
