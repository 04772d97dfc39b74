"""What including idem costs the compiler, in units of <string> + <unordered_map> + <functional>.

usage: include_cost.py [--repeat N] [--compiler CXX] [--check]

Prints `ratio NAME VALUE budget BUDGET` for each header: its time over the unit's, smaller is better. All are measured in
turns within one loop, so that whatever else the machine does meets all alike; medians are compared. The empty
translation unit's time, which is the compiler's own start, is taken off both sides.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile

UNIT = ["string", "unordered_map", "functional"]
BUDGETS = {
    "key": (["idem/key.hpp"], 1.25),
    "codec": (["idem/codec.hpp"], 1.25),
    "idempotent_memory_store": (["idem/idempotent.hpp", "idem/memory_store.hpp"], 2.2),
    "idem": (["idem/idem.hpp"], 2.7),
}

parser = argparse.ArgumentParser()
parser.add_argument("--repeat", type=int, default=21)
parser.add_argument("--compiler", default="g++")
parser.add_argument("--check", action="store_true", help="exit 1 if a budget is passed")
arguments = parser.parse_args()
include = pathlib.Path(__file__).resolve().parent.parent / "include"

sources = {"empty": [], "unit": UNIT, **{name: headers for name, (headers, _) in BUDGETS.items()}}
# The compiler itself, not a cache in front of it.
environment = {**os.environ, "CCACHE_DISABLE": "1"}


def compile_once(path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([arguments.compiler, "-std=c++20", "-fsyntax-only", f"-I{include}", path], check=True,
                   env=environment, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


with tempfile.TemporaryDirectory() as folder:
    paths = {}
    for name, headers in sources.items():
        paths[name] = pathlib.Path(folder) / f"{name}.cpp"
        paths[name].write_text("".join(f"#include <{header}>\n" for header in headers), encoding="utf-8")
        compile_once(paths[name])  # into the page cache
    times = {name: [] for name in sources}
    for _ in range(max(arguments.repeat, 15)):
        for name, path in paths.items():
            times[name].append(compile_once(path))

median = {name: statistics.median(values) for name, values in times.items()}
unit = median["unit"] - median["empty"]
print(f"unit {' '.join(f'<{header}>' for header in UNIT)}: {unit * 1000:.0f} ms of processor time")
over = []
for name, (headers, budget) in BUDGETS.items():
    cost = (median[name] - median["empty"]) / unit
    print(f"ratio include_{name} {cost:.2f} budget {budget:.2f}")
    if cost > budget:
        over.append(name)
if over:
    print(f"over budget: {', '.join(over)}")
sys.exit(bool(over) and arguments.check)
