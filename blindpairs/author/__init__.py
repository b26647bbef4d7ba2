"""Where people turn pairs into questions: drafts by models, decisions by people, and the files between them.

Read `drafts.py` first (what is proposed for a pair), then `database.py` (authoring.sqlite, which keeps all of it, opened
by `sqlite_file.py`, with its values in `revisions.py`) and `decisions.py` (which decision counts). `rows.py` is what goes
out and comes back as one row a pair: in `csv_file.py` for spreadsheets, in `label_studio.py` for Label Studio.
"""
