"""From a PDF to short French sentences: pure functions, no database, no queue."""
