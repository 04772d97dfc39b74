"""Every macro that idem's headers leave behind has the prefix IDEM_ (include guards there are none: #pragma once)."""

import subprocess
import sys

root, compiler, generated, *libraries = sys.argv[1:]


def macros(text):
    result = subprocess.run(
        [compiler, "-std=c++20", f"-I{root}/include", f"-I{generated}", *(f"-idirafter{path}" for path in libraries),
         "-dM", "-E", "-x", "c++", "-"],
        input=text, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    lines = [line.split(None, 2) for line in result.stdout.splitlines()]
    return {line[1].split("(")[0]: line[2] if len(line) > 2 else "" for line in lines}


standard = macros('#include "standard_headers.hpp"\n')
left = macros('#include "standard_headers.hpp"\n#include "all_headers.hpp"\n')
ours = {name: value for name, value in left.items() if standard.get(name) != value}
leaked = sorted(name for name in ours if not name.startswith("IDEM_"))
undefined = sorted(set(standard) - set(left))
for name in leaked:
    print(f"leaks or changes the macro {name}")
for name in undefined:
    print(f"undefines the macro {name}")
if not any(name.startswith("IDEM_") for name in ours):
    print("saw no macro of idem's at all: this check is broken")
    sys.exit(1)
sys.exit(bool(leaked or undefined))
