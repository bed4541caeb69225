"""What `otelbridge init` decides: the secrets and addresses of a stack, kept in its `.env` file.

`entries` says what stands there and who makes it, `plan` what is missing or wrong in a given file,
`rotation` what may be made anew, `surroundings` looks at git and at volumes of an earlier stack,
`snippets` prints the part that a service needs. The command is `otelbridge.cli.init`; the file
itself is `otelbridge.envfile`'s.
"""
