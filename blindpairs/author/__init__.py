"""Where people turn pairs into questions: drafts by models, decisions by people, and the files between them.

Read `drafts.py` first (what is proposed for a pair), then `database.py` (authoring.sqlite, which keeps all of it: its
values are in `revisions.py`, its tables in `tables.py`, `sqlite_file.py` opens it), `deciding.py` (what a decision
adds) and `standing.py` (which decision counts). `rows.py` is what goes out and comes back as one row a pair: as CSV in
`csv_file.py`, for Label Studio in `label_studio.py`.

For people at work: `queue.py` (which pair comes next), `edits.py` (what is being written), `live_checks.py` (what is
wrong with it), `pair_list.py` (finding pairs), `clusters.py` (naming what differs), `agreement.py` (how far people
agree, and settling it) and `yields.py` (what their time bought). `listing.py` keeps what makes these fast.

The pages: `desk.py` (one person's work as JSON), `overviews.py` (many pairs as values for templates), `pictures.py`
(images by id), `server.py` (the routes) behind `security.py` (who may ask), `refusals.py` (what cannot be done), and
`shell.py` (what `study` shares); templates, scripts and style are in `web/`.
"""
