"""Judges against a teacher or a person: agreement, floors, intervals."""
