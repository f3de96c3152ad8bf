"""What a machine is, as the trainer and the engine name it, what of it is used, and what of this repository ran on it."""

import os
import pathlib
import re
import subprocess

# by the engine's names, the best first: the flags of the kernel that each needs
INSTRUCTION_SETS = {
    "avx512+vnni+bf16": {"avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"},
    "avx512+vnni": {"avx512f", "avx512bw", "avx512_vnni"},
    "avx2+fma": {"avx2", "fma", "f16c"},
    "portable": set(),
}


def machine(text):
    """Name and instruction set from the text of /proc/cpuinfo."""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(flags.group(1).split()) if flags else set()
    return {
        "hardware": name.group(1).strip() if name else "an unknown processor",
        "instructionSet": next(name for name, needed in INSTRUCTION_SETS.items() if needed <= flags),
    }


def this_machine():
    return machine(pathlib.Path("/proc/cpuinfo").read_text())


def pin(threads):
    """Leaves this process, and all that it starts from now on, so many processors: the first of those that it may use."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def commit():
    """Of this repository, with a mark where files differ from it. Nothing without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
