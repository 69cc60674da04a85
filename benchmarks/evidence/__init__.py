"""Does the method work? Ablations, the record of a study, and one cell of it done again."""
