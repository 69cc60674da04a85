"""Where all randomness comes from: counter-based draws and keyed permutations."""
