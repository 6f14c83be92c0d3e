"""What a GPU would run: registers, memory and inner loops of compiled kernels (cubins), whoever compiled them."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("cuobjdump", "nvdisasm")
EXPONENTIAL_SLOTS = 8
"""A multiprocessor issues 128 instructions of threads a clock, and 16 of the unit that has exponentials."""


def file_of(package: str, name: str) -> Path | None:
    """A file of an installed package by the beginning of its name."""
    try:
        files = importlib.metadata.files(package) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(file.locate()) for file in files if file.name.startswith(name)), None)


def missing() -> str:
    """The packages that the tools are in and that are not installed; an empty string if all are there."""
    return ", ".join(f"nvidia-cuda-{tool}" for tool in TOOLS if file_of(f"nvidia-cuda-{tool}", tool) is None)


def _told(tool: str, *options: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(file_of(f"nvidia-cuda-{tool}", tool)), *options, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Usage:
    """Of one kernel: registers a thread, and bytes a thread of the memory that registers are spilled to."""

    registers: int
    local: int


def usage(cubin: bytes) -> dict[str, Usage]:
    """What the kernels of a cubin take, by their names."""
    text = _told("cuobjdump", "--dump-resource-usage", cubin=cubin)
    found = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    return {name: Usage(int(registers), int(stack) + int(local)) for name, registers, stack, local in found}


@dataclass(frozen=True)
class Loop:
    """Instructions of one pass of an inner loop, by their names."""

    instructions: Counter[str]

    def count(self, *beginnings: str) -> int:
        return sum(n for name, n in self.instructions.items() if name.startswith(beginnings))

    @property
    def pairs(self) -> int:
        """Of a thread in one pass: there is one exponential a pair."""
        return self.count("MUFU.EX2")

    @property
    def a_pair(self) -> float:
        """Instructions a pair."""
        return self.instructions.total() / self.pairs

    @property
    def share(self) -> float:
        """Of the speed at which the unit for exponentials and roots would be all that a pair waits for; 1 at most."""
        return min(1.0, EXPONENTIAL_SLOTS * self.count("MUFU") / self.instructions.total())

    def __str__(self) -> str:
        most = ", ".join(f"{n / self.pairs:.2f} {name}" for name, n in self.instructions.most_common())
        return f"{self.a_pair:.2f} instructions a pair, {self.share:.0%} of the exponential limit: {most}"


def loop_over_pairs(cubin: bytes) -> Loop:
    """The inner loop of a cubin that has the most exponentials: the unrolled one over pairs."""
    loops = [Loop(Counter(map(_name, body))) for body in inner_loops(_told("nvdisasm", "-c", cubin=cubin))]
    return max(loops, key=lambda loop: loop.pairs)


def inner_loops(text: str) -> list[list[str]]:
    """Instructions between a label and a branch back to it, where there is no such loop within.

    Examples
    --------
    >>> inner_loops("f:\\n.L_x_0:\\n /*0010*/ FADD R1, R1, R2 ;\\n /*0020*/ @P0 BRA `(.L_x_0) ;")
    [['FADD R1, R1, R2 ', '@P0 BRA `(.L_x_0) ']]
    """
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in text.splitlines():
        label = re.match(r"(\.L_x_\d+):", line)
        instruction = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line)
        if label:
            labels[label[1]] = len(instructions)
        elif instruction:
            instructions.append(instruction[1])
    back = []
    for end, instruction in enumerate(instructions):
        target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", instruction)
        if target and labels[target[1]] <= end:
            back.append((labels[target[1]], end))
    return [
        instructions[start : end + 1]
        for start, end in back
        if not any((s, e) != (start, end) and start <= s and e <= end for s, e in back)
    ]


def _name(instruction: str) -> str:
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0]
