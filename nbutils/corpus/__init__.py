"""From a document to questions, answers and pairs."""
