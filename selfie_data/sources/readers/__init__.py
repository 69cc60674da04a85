"""What sources are read with: archives, pickles, trees of images, labels, the spool."""
