"""Kernels as KeOps compiles them, by NVRTC and the assembler in it, for GPUs that need not be there."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import machine_code
from cuda_sources import Source
from machine_code import Usage, file_of

PACKAGE = "nvidia-cuda-nvrtc"
NO_ARITHMETIC = ("abs.", "mov.", "neg.", "selp.", "setp.")
"""Float32 instructions that double functions of CUDA's library compare halves of their numbers with."""


def missing() -> str:
    """The packages that are needed and not installed; an empty string if all are there."""
    own = PACKAGE if file_of(PACKAGE, "libnvrtc.so") is None else ""
    return ", ".join(filter(None, (own, machine_code.missing())))


class Refused(AssertionError):
    """NVRTC does not take a source: what it says."""


@dataclass(frozen=True)
class Program:
    """Compiled kernels: for the assembler, and for the GPU."""

    ptx: str
    cubin: bytes


@dataclass(frozen=True)
class Kernel:
    """A compiled source.

    Attributes
    ----------
    source : Source
    architecture : str
    usage : Usage
    in_single : tuple of str
        Instructions that compute in float32.
    """

    source: Source
    architecture: str
    usage: Usage
    in_single: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.architecture}, {self.usage}: {self.source}"


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(file_of(PACKAGE, "libnvrtc.so")))


def program(code: str, architecture: str, *options: str) -> Program:
    """A source compiled with KeOps' options for ``"sm_90"`` or the like."""
    library, handle = _library(), ctypes.c_void_p()
    flags = [f"-arch={architecture}", "-use_fast_math", *options]
    given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    assert library.nvrtcCreateProgram(ctypes.byref(handle), code.encode(), None, 0, None, None) == 0

    def result(what: str) -> bytes:
        size = ctypes.c_size_t()
        assert getattr(library, f"nvrtcGet{what}Size")(handle, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{what}")(handle, text) == 0
        return text.raw

    try:
        if library.nvrtcCompileProgram(handle, len(flags), given) != 0:
            raise Refused(result("ProgramLog").decode().rstrip("\0"))
        return Program(result("PTX").decode().rstrip("\0"), result("CUBIN"))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(handle))


def compiled(sources: Sequence[Source], architecture: str) -> list[Kernel]:
    """Sources compiled in one program, which takes half the time; if it is refused, the error is that of one source."""
    renamed = [re.sub(r"(__global__ void )\w+", rf"\1kernel_{k}", source.code) for k, source in enumerate(sources)]
    try:
        done = program("\n".join(renamed), architecture)
    except Refused as refused:
        if len(sources) > 1:
            for source in sources:
                compiled([source], architecture)
        raise Refused(f"{architecture}: {sources[0]}: {refused}") from None
    taken, in_single = machine_code.usage(done.cubin), arithmetic_in_single(done.ptx)
    return [
        Kernel(source, architecture, taken[f"kernel_{k}"], in_single[f"kernel_{k}"]) for k, source in enumerate(sources)
    ]


def arithmetic_in_single(ptx: str) -> dict[str, tuple[str, ...]]:
    """Instructions that compute in float32, by kernel; functions that are called count for the kernel before them.

    Examples
    --------
    >>> arithmetic_in_single(".visible .entry k(\\n{\\n  .reg .f32 %f<2>;\\n  @%p1 add.f32 %f1, %f1, %f1;\\n}")
    {'k': ('add.f32',)}
    """
    parts = re.split(r"\.entry (\w+)\(", ptx)
    return {
        name: tuple(
            sorted(
                found
                for found in set(re.findall(r"^\s*(?:@!?%\w+\s+)?([a-z]\S*\.f32\S*)\s", body, re.MULTILINE))
                if not found.startswith(NO_ARITHMETIC)
            )
        )
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
