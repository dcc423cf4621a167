"""The ``penstock`` command: thin commands only; the work is done in the rooms below."""
