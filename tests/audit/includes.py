"""What headers of keys and codecs must not bring in, not even by way of others: see the include budgets of
benchmarks/run include, which this keeps without measuring time."""

import pathlib
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
compiler = sys.argv[2]

HEAVY = {"functional", "filesystem", "iostream", "random", "regex", "future", "immintrin.h", "x86intrin.h"}
FORBIDDEN = {
    "idem/key.hpp": HEAVY | {"chrono", "mutex", "thread", "condition_variable"},
    "idem/codec.hpp": HEAVY | {"chrono", "mutex", "thread", "condition_variable"},
    "idem/protocol.hpp": HEAVY | {"thread", "condition_variable"},
    "idem/idem.hpp": HEAVY,
}
# With libstdc++, whose <chrono> and <vector> idem does without: see detail/chrono.hpp.
FORBIDDEN_LIBSTDCXX = {
    "idem/idempotent.hpp": HEAVY | {"chrono", "sstream", "vector"},
}

failed = False
for header, forbidden in [*FORBIDDEN.items(), *FORBIDDEN_LIBSTDCXX.items()]:
    if not (root / "include" / header).exists():
        print(f"{header} is not there")
        failed = True
        continue
    result = subprocess.run(
        [compiler, "-std=c++20", f"-I{root / 'include'}", "-M", "-x", "c++", "-"],
        input=f"#include <{header}>\n", capture_output=True, text=True, check=False)
    if result.returncode:
        print(result.stderr)
        failed = True
        continue
    brought = {pathlib.PurePath(word).name for word in result.stdout.split() if "/idem/" not in word}
    if header in FORBIDDEN_LIBSTDCXX and "bits/chrono.h" not in result.stdout:
        continue
    for name in sorted(forbidden & brought):
        print(f"<{header}> brings in <{name}>")
        failed = True
sys.exit(failed)
