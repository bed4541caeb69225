"""Third-party libraries that need more than their stock instrumentation: WSGI/Flask, httpx.

The stock OpenTelemetry instrumentations make the spans; the modules here add what they lack, and
work whichever of the two is applied first. Nothing here is imported by `import otelbridge`.
"""
