"""The scoring student: how it reads, learns and is kept."""
