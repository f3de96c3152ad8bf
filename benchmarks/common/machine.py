"""What a machine is, as the trainer and the engine name it, what of it is used, and what of this repository ran on it."""

import os
import pathlib
import re
import subprocess

SIMD = {"avx512f": "avx512", "avx2": "avx2+fma", "asimd": "neon"}


def machine(text):
    """Name and instruction set from the text of /proc/cpuinfo."""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = flags.group(1).split() if flags else []
    return {
        "hardware": name.group(1).strip() if name else "an unknown processor",
        "instructionSet": next((simd for flag, simd in SIMD.items() if flag in flags), "unknown"),
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
