"""What is drawn: the order of an epoch, the crop, the patches. Numbers in, numbers out."""
