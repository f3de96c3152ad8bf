"""Where the time goes: symbols of perf and operations of torch.profiler, summed into a few classes."""

import re
import shutil
import subprocess

CLASSES = {
    "matrix products": r"gemm|microkernel|pack_[lr]hs|matrix::multiply|aten::(mm|addmm|bmm|baddbmm|matmul|linear)$",
    "attention": r"differentiable::attention|HeadView|scaled_dot_product|aten::_?softmax|aten::_softmax_backward",
    # the updates of the trainer are closures of threads, of which only the frame below has a symbol
    "sums, clipping, optimizer": r"cllm_trainer::(optimizer|fine_tune|parallel)|__rust_begin_short_backtrace|[Aa]dam|Optimizer|_foreach_|vector_norm",
    "memory": r"^\[k\]|mem(cpy|move|set|cmp)|malloc|calloc|realloc|_int_free|\bfree$|drop_in_place|index|embedding|"
              r"aten::(copy_|_to_copy|clone|contiguous|cat|stack|empty|zero|new_|fill_|scatter|reshape|_reshape_alias|view|t$|transpose|as_strided|expand|select|slice)",
    # what is left: norms, activations, rotations, losses
    "element by element": r"cllm_engine::differentiable|candle_core::cpu_backend|Iterator|spec_extend|spec_from_iter|exp(f|onential)?\b|"
                          r"aten::(mul|add|sub|div|neg|exp|pow|sum|mean|rsqrt|silu|log_softmax|_log_softmax|nll_loss|rms_norm|_fused_rms_norm|cross_entropy)",
}
OTHER = "other"
TOP = 8
FREQUENCY = 199


def class_of(name):
    return next((class_ for class_, pattern in CLASSES.items() if re.search(pattern, name)), OTHER)


def summed(costs):
    """{name: cost in any unit}: the share of every class, and the costliest names with theirs."""
    total = sum(costs.values())
    classes = dict.fromkeys([*CLASSES, OTHER], 0.0)
    for name, cost in costs.items():
        classes[class_of(name)] += cost / total
    top = sorted(costs.items(), key=lambda entry: -entry[1])[:TOP]
    return {"classes": classes, "top": {name: cost / total for name, cost in top}}


def parsed(report):
    """Of `perf report`: {symbol: per cent}; symbols of the kernel keep their mark."""
    costs = {}
    for line in report.splitlines():
        found = re.match(r"\s*([\d.]+)%\s+(\[.\])\s+(.+?)\s*$", line)
        if found:
            share, place, name = found.groups()
            name = f"{place} {name}" if place == "[k]" else name
            costs[name] = costs.get(name, 0.0) + float(share)
    return costs


def of_command(command, scratch):
    """Runs a command under perf. Without perf, or where it is not allowed, says why there is no profile."""
    if not shutil.which("perf"):
        return {"unavailable": "perf is not installed."}
    samples = scratch / "perf.data"
    recorded = run(["perf", "record", "--quiet", f"--freq={FREQUENCY}", f"--output={samples}", "--", *command])
    if recorded.returncode != 0:
        return {"unavailable": f"perf could not record: {last_line(recorded)}"}
    reported = run(["perf", "report", f"--input={samples}", "--stdio", "--no-children", "--fields=overhead,symbol", "--percent-limit=0"])
    costs = parsed(reported.stdout)
    return summed(costs) if costs else {"unavailable": f"perf reported nothing: {last_line(reported)}"}


def run(command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")


def last_line(ended):
    return (ended.stderr.strip().splitlines() or [f"it ended with code {ended.returncode}."])[-1]
