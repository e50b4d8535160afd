"""The benchmark of the search: measured tables of whole spaces, and strategies replayed on them."""
