"""A person looks at single judgements, and their word is kept."""
