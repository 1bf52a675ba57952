"""The experiments of arXiv 2310.03150 as one command: run folders first, then a document and its figures from them.

:mod:`.plan` says what is run, :mod:`.parts` runs what is missing, :mod:`.collect` reads it all back, :mod:`.claims`
judges the paper's qualitative claims by stated rules, and :mod:`.front` with its sections and pages says it in words,
tables and figures, which :mod:`.write` puts into files. :mod:`.run` does all of it.
"""
