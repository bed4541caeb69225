"""The pytest plugin: the spans of a test, asked in TraceQL.

`plugin` is the `pytest11` entry point with the fixtures `traces` and `live_traces`; `capture`
collects spans in memory, `traces` and `live` answer queries, `assertions` are the methods of both,
`near_misses` and `trees` say why one failed. Nothing here is loaded before a fixture is used.
"""
