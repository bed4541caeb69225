"""`otelbridge doctor`: what is wrong with this set-up, on what evidence, and what to do about it.

`findings` has the values that everything here speaks, `table*` explain the codes, `*_checks` look,
`run` runs them, `probe` asks the network. The command is `otelbridge.cli.doctor`. Nothing is
changed, and no secret is shown. Limits: it sees this environment and this machine only.
"""
