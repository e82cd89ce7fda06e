"""The report of a run: one HTML page, made from the files in its directory. The page makes no requests.

run_files.py reads the files, all of which are optional. A section is a part of the page that some of the files
provide: sections.py lists them. page.py assembles them, comparison.py does so for several runs.
"""
