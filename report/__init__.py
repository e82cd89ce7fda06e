"""The report of a run: one HTML page, made from the files of its directory. The page makes no request.

run_files.py reads the files; every one of them is optional. A section is a part of the page that some of the files
provide: sections.py lists them. page.py puts them together, comparison.py does so for several runs.
"""
