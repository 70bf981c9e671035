"""The series under papermill, and what it tells."""
