"""Compiles HSTU's Triton kernels to a GPU's machine code, which takes no GPU, and prints what shared memory each takes.

``python tests/gpu/compile_kernels.py 90 fp32 128``: a compute capability, a precision, a width of heads.
"""

import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from persrec.nn.attention import triton as kernels

INDICES = dict.fromkeys(("query_positions", "key_positions", "query_times", "key_times", "starts"), "*i64")
SIZES = ("users", "heads", "n", "m", "p", "d", "e", "entries")


def compiled(kernel, capability, precision, width):
    names, signature, constants = kernel.arg_names, {}, {}
    side = kernels.ROWS if width * (4 if precision == "fp32" else 2) <= kernels.NARROW_BYTES else kernels.ROWS // 2
    fixed = {"ROWS": side, "KEYS": side, "D": width, "E": width, "PRECISION": "ieee", "ENTRIES": 256}
    for place, name in enumerate(names):
        if name in fixed:
            signature[name], constants[(place,)] = "constexpr", fixed[name]
        elif name in SIZES:
            signature[name] = "i32"
        else:
            signature[name] = INDICES.get(name, "*fp32" if name in ("grad_distance", "grad_interval") else f"*{precision}")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=kernels.LAUNCH)


if __name__ == "__main__":
    capability, precision, width = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    shared = {}
    for name in ("_forward", "_backward_queries", "_backward_keys", "_backward_tables"):
        code = compiled(getattr(kernels, name), capability, precision, width)
        shared[name] = code.metadata.shared if code.asm["cubin"] else None
    sys.stdout.write(json.dumps(shared))
