"""One answer at a time: grades, their loss, and what judges of them are worth."""
