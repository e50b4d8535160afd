"""Showing what was found: the HTML page, pictures, and the tables of the terminal.

`page` writes the report, `blind` has a person compare images, `picture` puts images side by side,
`table` prints the summary, and `words` says times and jobs the same way everywhere.
"""
