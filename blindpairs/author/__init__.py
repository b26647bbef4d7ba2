"""Where people turn pairs into questions: drafts by models, decisions by people, and the files between them.

Read `drafts.py` first (what is proposed for a pair), then `database.py` (authoring.sqlite, which keeps all of it).
"""
