"""Compiles Triton's kernels for GPUs that need not be here: `compiled_triton.py CAPABILITY`, a JSON line a kernel.

A process of its own, since where kernels are interpreted they cannot be compiled.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pipelines.kernels import patches_triton as ours

TYPES = {
    **dict.fromkeys(("sizes", "outputs", "windows", "taps", "needed", "first", "weight", "position"), "*i32"),
    **dict.fromkeys(("start", "row_bytes", "begin"), "*i64"),
    **dict.fromkeys(("mirror", "hidden"), "*i1"),
    **dict.fromkeys(("pixels", "rows"), "*u8"),
    **dict.fromkeys(("scale", "bias"), "*fp32"),
    **dict.fromkeys(("view", "most", "most_rows", "patch", "cell", "slots"), "i32"),
}
OUTPUTS = {"uint8": "*u8", "float32": "*fp32", "float16": "*fp16", "bfloat16": "*i16"}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def variants() -> Iterator[tuple[str, Any, dict[str, Any], dict[str, str]]]:
    """Every form that the kernels are launched in: name, kernel, constants, types."""
    for antialias in (True, False):
        yield f"taps, antialias {antialias}", ours._taps, {"ANTIALIAS": antialias, "BLOCK": ours._LINE}, TYPES
    yield "rows", ours._rows, {"BLOCK": ours.BLOCK}, TYPES
    for weighed, hide, (name, kind) in product((True, False), (True, False), OUTPUTS.items()):
        constants = {"WEIGHED": weighed, "HIDE": hide, "FLOAT": name != "uint8", "BLOCK": ours.BLOCK}
        yield f"patches, weighed {weighed}, hide {hide}, {name}", ours._patches, constants, {**TYPES, "out": kind}


def compiled(kernel: Any, constants: dict[str, Any], types: dict[str, str], capability: int, options: Any) -> Any:
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def usage(cubin: bytes) -> dict[str, int]:
    """What NVIDIA's assembler says a kernel uses."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(TOOLS / "cuobjdump"), "-res-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = re.findall(r"\b(REG|STACK|LOCAL):(\d+)", done.stdout + done.stderr)
    return {name: int(value) for name, value in found}


def main() -> None:
    capability = int(sys.argv[1])
    for name, kernel, constants, types in variants():
        one = compiled(kernel, constants, types, capability, ours.OPTIONS)
        contracted = re.findall(r"\bfma[.\w]*|\b(?:mul|add|div)\.(?!rn\.)[.\w]*f(?:32|64)", one.asm["ptx"])
        target = re.search(r"^\.target (\w+)", one.asm["ptx"], re.MULTILINE)
        assert target is not None
        print(json.dumps({"kernel": name, "target": target[1], "contracted": contracted, **usage(one.asm["cubin"])}))
    fused = compiled(kernel, constants, types, capability, {**ours.OPTIONS, "enable_fp_fusion": True})
    print(json.dumps({"kernel": "fused", "fma": "fma" in fused.asm["ptx"]}))


if __name__ == "__main__":
    main()
