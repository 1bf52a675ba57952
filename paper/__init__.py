"""The experiments of arXiv 2310.03150 as one command: run folders first, then a document and its figures from them.

:mod:`.plan` says what is run, :mod:`.parts` runs what is missing, :mod:`.collect` reads it all back, :mod:`.claims`
judges the paper's qualitative claims by stated rules, and the pages (:mod:`.front`, :mod:`.scaling_page` and their
siblings) say it in words, tables and figures.
"""
