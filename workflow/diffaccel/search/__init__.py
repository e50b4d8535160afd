"""The search: which candidates are measured, and what is then known of a cell.

`cell` has the measurements and models of one cell, `decide` searches the cells of a configuration
side by side, and `rival` compares with fewer steps. `losses` and `speeds` predict, `worth` says
what a measurement is worth, `pareto` picks, and `strategies` propose candidates, one file each.
`records` are what comes out, and `found` keeps whatever was ever found.
"""
