"""TraceQL as text, tree and SQL: pure functions, no I/O and no database (design section 2)."""
