"""A part of a build in a process of its own, to be killed: `python killed_part.py OUT COUNT I/N`."""

import sys

from selfie_data.build.parts import Part, build_part
from tests.selfie_data.build.killed_build import OPTIONS, source

if __name__ == "__main__":
    build_part(source(int(sys.argv[2])), sys.argv[1], OPTIONS, Part.parse(sys.argv[3]), workers=1)
