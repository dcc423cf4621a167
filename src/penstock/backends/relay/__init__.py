"""The backend ``notebook``: jobs that a user's own notebook submits, with the user's credentials."""
