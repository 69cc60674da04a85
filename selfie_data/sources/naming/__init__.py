"""What names say: which file, row or column is which split, label or image, by the Hugging Face hub's rules."""
