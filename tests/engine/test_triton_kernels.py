"""The library's own kernels, compiled by Triton without a GPU: `make check-cuda`."""

import machine_code
import pytest

triton = pytest.importorskip("triton", reason="not installed: triton; run make check-cuda")
if machine_code.missing():
    pytest.skip(f"not installed: {machine_code.missing()}; run make check-cuda", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from geomsink.engine import tiled, tiles  # noqa: E402

KINDS = dict.fromkeys(("ROW_BEGIN", "ROW_END", "FIRST", "BEGIN", "END"), "*i32")
KINDS |= dict.fromkeys(("X", "X_REST", "Y", "Y_REST"), "*fp16") | dict.fromkeys(("U", "V", "W", "OUT"), "*fp32")
KINDS |= {"n": "i32", "m": "i32", "scale": "fp32", "rest": "fp32"}
DOUBLES = dict.fromkeys(("POINTS", "FACTOR", "LEFT"), "*fp64") | {"PIVOTS": "*i64", "RANK": "*i64"}
DOUBLES |= {"n": "i32", "most": "i32", "enough": "fp32"}
SHARED = {80: 163, 86: 99, 90: 227}
"""KiB of shared memory that a program can have, by architecture."""
FEW_BYTES = 16
"""Of memory a thread that a kernel may have for what belongs into registers."""
DIFFERENCES = {  # by coordinates, with instructions a pair, at most: for sums, and for products with 1 to 4 columns
    1: (6.2, 6.5, 7.5, 8.8, 10.0),
    2: (8.2, 8.5, 9.5, 10.7, 12.2),
    3: (10.5, 10.7, 11.7, 13.0, 14.4),
    4: (12.9, 13.0, 14.2, 15.5, 17.0),
}
PRODUCTS = {16: 7.8, 32: 8.5, 64: 9.8, 128: 14.5}
"""The same of sums alone: products go to the matrix units."""


def built(kernel, constants, warps, stages, capability):
    """A kernel as its launch compiles it; pointers are to whole lines, as those of torch's tensors are."""

    kinds = KINDS | dict.fromkeys("XY", "*fp32") if kernel is tiles.by_differences else KINDS
    if kernel is tiles.pivoted_cholesky:
        kinds = DOUBLES
    signature = {name: "constexpr" if name in constants else kinds[name] for name in kernel.arg_names}
    aligned = {(k,): [["tt.divisibility", 16]] for k, one in enumerate(signature.values()) if one.startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.fixture(autouse=True)
def compiled_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


def checked(kernel, constants, warps, stages, most=None):
    for capability, shared in SHARED.items():
        done = built(kernel, constants, warps, stages, capability)
        (usage,) = machine_code.usage(done.asm["cubin"]).values()
        assert usage.local <= FEW_BYTES, (capability, usage)
        assert done.metadata.shared <= 1024 * shared, (capability, done.metadata.shared)
    if most is not None:
        loop = machine_code.loop_over_pairs(done.asm["cubin"])
        assert loop.count("MUFU") == loop.pairs, str(loop)
        assert loop.a_pair <= most, str(loop)


@pytest.mark.parametrize("columns", range(tiled.THIN + 1))
@pytest.mark.parametrize("D", DIFFERENCES)
def test_differences(D, columns):
    constants = {"ROWS": tiled.ROWS, "COLUMNS": tiled.COLUMNS, "D": D, "E": columns}
    checked(tiles.by_differences, constants, tiled.WARPS, 1, DIFFERENCES[D][columns])


@pytest.mark.parametrize("columns", [0, *tiled.BROAD])
@pytest.mark.parametrize("D", PRODUCTS)
def test_products(D, columns):
    *sizes, warps, stages = tiled.BUSY if columns else tiled.WIDE[D]
    constants = dict(zip(("ROWS", "COLUMNS"), sizes, strict=True)) | {"D": D, "E": columns}
    checked(tiles.by_products, constants, warps, stages, None if columns else PRODUCTS[D])


@pytest.mark.parametrize("D", [1, 3])
def test_pivots(D):
    checked(tiles.pivoted_cholesky, {"D": D, "N": 512}, 8, 1)
