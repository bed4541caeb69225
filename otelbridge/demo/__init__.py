"""`otelbridge demo`: the example services, driven and checked.

`processes` starts and always ends child processes, `stack` says which ones and with what
environment, `traffic` sends the requests, `views` reads both views back, `checks` judges them,
`runner` puts these together. Nothing here is imported by `import otelbridge`.
"""
