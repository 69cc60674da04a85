"""The calls to make where a GPU is lent for minutes: what to carry, what to run, and how long each may take.

Such a host has torch and what comes with it (`host.txt`), no registry, no git, and forgets everything once it is given
back. A call carries a limited number of bytes, so the packages that it lacks (`requirements.txt`) travel in parts that
`benchmarks.gpu.pack` makes, and the images after them.
"""

from typing import NamedTuple

from benchmarks.gpu.plan import CALLS, SECTIONS

FOLDER = "/tmp/selfie-gpu"
CARRIED = ".offline"
PARTS = 3
CARRY_LIMIT_S = 30
SLACK_S = 10  # starting Python; a section's limit is counted without
START_S = 120  # starting a host counts too where time is lent
SHORT_S = 900  # the shortest time that a host is lent for
ALL_S = 1500
IMAGES = ("imagenet-fullres-120.tar", "imagenet32-100-jpeg.tar.gz")
_SITE = f"PYTHONPATH={FOLDER}/site"
_UNPACK = (
    f"mkdir -p {FOLDER}/site && cat {FOLDER}/part-* | python3 -c "
    '"import sys, tarfile; '
    "tarfile.open(fileobj=sys.stdin.buffer, mode='r|xz').extractall(sys.argv[1], filter='tar')\" "
    f"{FOLDER}/site"
)
_UNPACK_S = 30


class Call(NamedTuple):
    """One call: its name, what must travel with it, its limit and its command."""

    name: str
    carry: str
    limit_s: int
    command: str


def calls() -> list[Call]:
    """All calls in their order."""
    found = []
    for number in range(PARTS):
        part = f"{CARRIED}/part-{number}"
        look = "nvidia-smi; lscpu | head -20; which git gcc xz; " if number == 0 else ""
        command = f"{look}mkdir -p {FOLDER} && cp {part} {FOLDER}/"
        found.append(Call(f"packages {number + 1} of {PARTS}", part, CARRY_LIMIT_S, command))
    images = " ".join(f"{CARRIED}/{name}" for name in IMAGES)
    found.append(Call("images", images, CARRY_LIMIT_S, f"cp {images} {FOLDER}/"))
    limits = {one.name: one.limit_s for one in SECTIONS}
    for number, names in enumerate(CALLS):
        run = f"{_SITE} SELFIE_TEST_DATA={FOLDER} python3 -m benchmarks.gpu --only {','.join(names)}"
        command = f"{_UNPACK} && {run}" if number == 0 else run
        limit = sum(limits[name] for name in names) + SLACK_S + (_UNPACK_S if number == 0 else 0)
        found.append(Call(f"sections {number + 1} of {len(CALLS)}", "nothing more", limit, command))
    return found


def fitting(seconds: int) -> int:
    """How many of the calls, from the first, fit into `seconds` with the start of the host."""
    left = seconds - START_S
    for number, call in enumerate(calls()):
        left -= call.limit_s
        if left < 0:
            return number
    return len(calls())


def describe() -> str:
    """The calls as text."""
    found = calls()
    lines = [
        "Before, on a machine with a registry:",
        f"    python -m benchmarks.gpu.pack {CARRIED}     # packages of benchmarks/gpu/requirements.txt, {PARTS} parts",
        f"    cp $SELFIE_TEST_DATA/{{{','.join(IMAGES)}}} {CARRIED}/",
        "    # without the images, synthetic ones stand in and every record says so",
        "The host needs a C compiler, gcc or clang: Triton builds with it what launches its kernels. Section `kernels`",
        "says whether their bits are the reference's, `patch_stage` how fast they are beside DALI's operators.",
        "Then, one after the other and without a pause, in the root of a copy of this repository; OUT names the folder",
        "whose files come back, and every call adds its records there. Copy them away after each call.",
    ]
    for number, call in enumerate(found):
        lines += ["", f"{number + 1}. {call.name}: limit {call.limit_s} s, carries {call.carry}", f"    {call.command}"]
    total, short = sum(call.limit_s for call in found), fitting(SHORT_S)
    lines += [
        "",
        f"All limits together: {total} s of {ALL_S}.",
        f"Where {SHORT_S // 60} minutes are lent, {START_S} s of them for the start: calls 1 to {short}, "
        f"{sum(call.limit_s for call in found[:short])} s.",
        "Afterwards: python -m benchmarks.gpu --tables FILE [--tables FILE ...] on what came back.",
    ]
    return "\n".join(lines)
