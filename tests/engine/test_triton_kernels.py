"""The library's own kernels, compiled by Triton without a GPU: `make check-cuda`."""

import machine_code
import pytest

triton = pytest.importorskip("triton", reason="not installed: triton; run make check-cuda")
if machine_code.missing():
    pytest.skip(f"not installed: {machine_code.missing()}; run make check-cuda", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from geomsink.engine import tiled, tiles  # noqa: E402

POINTERS_TO_INTEGERS = {"ROW_BEGIN", "ROW_END", "FIRST", "BEGIN", "END"}
SCALARS = {"n": "i32", "m": "i32", "scale": "fp32"}
DIFFERENCES = (tiles.by_differences, (tiled.ROWS, tiled.COLUMNS, tiled.WARPS, 1))
PRODUCTS = {D: (tiles.by_products, tile) for D, tile in tiled.WIDE.items()}
SHARED = {80: 163, 90: 227}
"""KiB of shared memory that a program can have, by architecture."""
IN_MEMORY = {(80, 128)}
"""Architectures and coordinates where registers do not suffice: before sm_90 matrix units take tiles from them."""
KERNELS = [  # with instructions a pair, at most: for sums, and for products with one and with two columns
    (*DIFFERENCES, 1, (6.9, 7.1, 8.4)),
    (*DIFFERENCES, 2, (9.2, 9.4, 10.5)),
    (*DIFFERENCES, 3, (11.4, 11.7, 12.6)),
    (*DIFFERENCES, 4, (13.7, 14.0, 15.1)),
    (*PRODUCTS[16], 16, (7.3, 7.9, 9.9)),
    (*PRODUCTS[32], 32, (10.5, 11.5, 14.3)),
    (*PRODUCTS[64], 64, (12.8, 14.2, 17.3)),
    (*PRODUCTS[128], 128, (21.2, 22.2, 25.0)),
]


def built(kernel, constants, warps, stages, capability):
    """A kernel as its launch compiles it; pointers are to whole lines, as those of torch's tensors are."""

    def kind(name):
        if name in constants:
            return "constexpr"
        return SCALARS.get(name) or ("*i32" if name in POINTERS_TO_INTEGERS else "*fp32")

    signature = {name: kind(name) for name in kernel.arg_names}
    aligned = {(k,): [["tt.divisibility", 16]] for k, one in enumerate(signature.values()) if one.startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.fixture(autouse=True)
def compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


@pytest.mark.parametrize("columns", [0, 1, 2])
@pytest.mark.parametrize(("kernel", "tile", "D", "most"), KERNELS, ids=[f"{k.__name__}-{D}" for k, _, D, _ in KERNELS])
def test_kernels(kernel, tile, D, most, columns):
    *sizes, warps, stages = tile
    constants = dict(zip(("ROWS", "COLUMNS"), sizes, strict=True)) | {"D": D, "E": columns}
    for capability, shared in SHARED.items():
        done = built(kernel, constants, warps, stages, capability)
        (usage,) = machine_code.usage(done.asm["cubin"]).values()
        assert usage.local == 0 or (capability, D) in IN_MEMORY, (capability, usage)
        assert done.metadata.shared <= 1024 * shared, (capability, done.metadata.shared)
    loop = machine_code.loop_over_pairs(done.asm["cubin"])
    assert loop.count("MUFU") == loop.pairs, str(loop)
    assert loop.a_pair <= most[columns], str(loop)
