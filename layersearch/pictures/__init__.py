"""The pictures: how a search went, what it found, and what is in the latent space of its best model.

`search_pictures` and `latent.drawing` are the two entries; each returns PNGs by name. A picture is a file with a
function `draw_…` that returns a figure: `curves`, `sizes`, `verdict`, `history`, `study`, and those in `latent/`.
`style` is the look that all share, `placing` puts labels where there is room, `survey` has words on which
configurations are shown, `loss_axis` draws what crosses the axis of losses, `headless` makes Matplotlib the same on any
machine.

To add a picture, write a `draw_…` in a file of its own, call it in one of the two entries, and name its file in
`OutputFiles` of the report. Only this room imports Matplotlib.
"""
