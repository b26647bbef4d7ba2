"""Where people turn pairs into questions: drafts by models, decisions by people, and the files between them.

Read `drafts.py` first (what is proposed for a pair), then `database.py` (authoring.sqlite, which keeps all of it; its
values are in `revisions.py`, and `sqlite_file.py` opens it) and `decisions.py` (which decision counts). `rows.py` is
what goes out and comes back as one row a pair: as CSV in `csv_file.py`, for Label Studio in `label_studio.py`.
"""
