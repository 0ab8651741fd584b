"""The pictures of a latent space; `drawing` is the entry that the program calls.

`scatter` shows all samples in a plane and `matrix` in 1 or in 3 to 5 dimensions, with what both share in `marks`;
`axes` shows what each latent dimension stands for, `reconstruction` what the model keeps of each column, and
`agreement` how well the latent space agrees with labels. `page` lays them out. A new picture is called in `drawing`.
"""
