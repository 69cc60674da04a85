"""Does it work? Ablations, the record of a study and a cell of it done again, streams undisturbed, orders that mix."""
