"""One image: decoded, resized, encoded, measured."""
