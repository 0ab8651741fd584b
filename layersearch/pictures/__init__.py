"""Draws the pictures: how a search went, what it found, and the latent space of its best model.

`search_pictures` and `latent.drawing` are the two entry points; each returns PNGs by name. Each picture has its own
module with a function `draw_…` that returns a figure: `curves`, `sizes`, `verdict`, `history`, `study`, and those in
`latent/`. `style` holds the common style, `placing` places labels where there is room, `survey` describes which
configurations are shown, `loss_axis` draws the loss axis and what crosses it, and `headless` makes Matplotlib work
alike on any machine.

To add a picture, write a function `draw_…` in a new module, call it in one of the two entry points, and name its file
in `OutputFiles` of the report. Only this package imports Matplotlib.
"""
