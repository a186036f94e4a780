"""The leaderboard: a pure function of `results/`, written as Markdown, CSV and one HTML file that needs no network.

records -> `board` (blocks of comparable cells, alarms) -> `markdown`, `table_csv`, and `data` + `page` (HTML).
No statistic is computed here: what is shown was stored with the cell. Model output is hostile data: see `text` and `page`.
"""
