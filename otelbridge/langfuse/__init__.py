"""Langfuse's public API: what spans alone cannot do. Imported only where it is used."""
