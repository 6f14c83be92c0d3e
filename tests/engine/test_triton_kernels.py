"""The library's own kernels, compiled by Triton without a GPU: `make check-cuda`."""

import machine_code
import pytest

triton = pytest.importorskip("triton", reason="not installed: triton; run make check-cuda")
if machine_code.missing():
    pytest.skip(f"not installed: {machine_code.missing()}; run make check-cuda", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from geomsink.engine import tiled, tiles  # noqa: E402

TYPES = {
    **dict.fromkeys(("ROW_BEGIN", "ROW_END", "FIRST", "BEGIN", "END"), "*i32"),
    **dict.fromkeys(("n", "m"), "i32"),
    **dict.fromkeys(("scale", "rest"), "fp32"),
}
"""Of arguments that are not pointers to numbers of the kernel's precision."""
SHARED = {80: 163, 90: 227}
"""KiB of shared memory that a program can have, by architecture."""
IN_MEMORY = {(80, 16, 64), (80, 128, 16), (80, 128, 64)}
"""Architectures, coordinates and columns where registers do not suffice: matrix units take all from them."""
DIFFERENCES = (tiles.by_differences, "fp32", (tiled.ROWS, tiled.COLUMNS, tiled.WARPS, 1))
PRODUCTS = {D: (tiles.by_products, "fp16", tile) for D, tile in tiled.WIDE.items()}
BUSY = {D: (tiles.by_products, "fp16", (*tile[:2], *tiled.BUSY)) for D, tile in tiled.WIDE.items()}
KERNELS = [  # kernel, precision of points, tile; coordinates, columns (0: sums), instructions a pair at most
    (*DIFFERENCES, 1, 0, 5.9),
    (*DIFFERENCES, 2, 0, 8.2),
    (*DIFFERENCES, 3, 0, 10.5),
    (*DIFFERENCES, 3, 1, 10.7),
    (*DIFFERENCES, 3, 4, 14.4),
    (*DIFFERENCES, 4, 0, 12.8),
    (*DIFFERENCES, 4, 4, 16.0),
    (*PRODUCTS[16], 16, 0, 8.7),
    (*PRODUCTS[32], 32, 0, 9.2),
    (*PRODUCTS[64], 64, 0, 10.5),
    (*PRODUCTS[128], 128, 0, 15.1),
    (*BUSY[16], 16, 16, 27.3),
    (*BUSY[16], 16, 64, 33.4),
    (*BUSY[128], 128, 16, 33.0),
    (*BUSY[128], 128, 64, 38.4),
]


def built(kernel, points, constants, warps, stages, capability):
    """A kernel as its launch compiles it; pointers are to whole lines, as those of torch's tensors are."""

    def kind(name):
        if name in constants:
            return "constexpr"
        return TYPES.get(name) or ("*" + points if name in ("X", "X_REST", "Y", "Y_REST") else "*fp32")

    signature = {name: kind(name) for name in kernel.arg_names}
    aligned = {(k,): [["tt.divisibility", 16]] for k, one in enumerate(signature.values()) if one.startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.fixture(autouse=True)
def compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


NAMES = [f"{kernel.__name__}-{D}-{columns}" for kernel, _, _, D, columns, _ in KERNELS]


@pytest.mark.parametrize(("kernel", "points", "tile", "D", "columns", "most"), KERNELS, ids=NAMES)
def test_kernels(kernel, points, tile, D, columns, most):
    *sizes, warps, stages = tile
    constants = dict(zip(("ROWS", "COLUMNS"), sizes, strict=True)) | {"D": D, "E": columns}
    for capability, shared in SHARED.items():
        done = built(kernel, points, constants, warps, stages, capability)
        (usage,) = machine_code.usage(done.asm["cubin"]).values()
        assert (usage.local > 0) == ((capability, D, columns) in IN_MEMORY), (capability, usage)
        assert done.metadata.shared <= 1024 * shared, (capability, done.metadata.shared)
    loop = machine_code.loop_over_pairs(done.asm["cubin"])
    assert loop.count("MUFU") == loop.pairs, str(loop)
    assert loop.a_pair <= most, str(loop)
