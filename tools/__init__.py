"""Tools for work on this repository: checks, set-up, pictures. Never needed by a notebook."""
