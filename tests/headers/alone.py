"""Every header compiles with nothing before it.

usage: alone.py ROOT COMPILER GENERATED INCLUDE_FOLDER...

A compilation of its own for each header would take minutes. But what stands before a header in a file hides nothing
where the header includes all of that itself; so a file that includes a chain of headers, each of which includes the
one before it in however many steps, shows of all of them that they stand alone. There are as few chains as can be, a
quarter of the headers. Includes under a condition don't count, since they may not be made.
"""

import concurrent.futures
import os
import re
import subprocess
import sys

root, compiler, generated, *libraries = sys.argv[1:]


def included(text):
    """The headers of idem's that the text includes under no condition."""
    depth = 0
    directives = r"^[ \t]*#[ \t]*(if|endif|include)\w*[ \t]*(?:<(idem/[^>]+)>)?"
    for directive, header in re.findall(directives, text, re.MULTILINE):
        depth += {"if": 1, "endif": -1}.get(directive, 0)
        if header and depth == 0:
            yield header


with open(f"{generated}/all_headers.hpp", encoding="utf-8") as all_headers:
    headers = re.findall(r"<(idem/[^>]+)>", all_headers.read())
direct = {}
for name in headers:
    with open(f"{root}/include/{name}", encoding="utf-8") as header:
        direct[name] = [target for target in included(header.read())]

below = {}  # what a header includes in however many steps


def reach(name):
    if name not in below:
        below[name] = set()
        for target in direct[name]:
            below[name] |= {target} | reach(target)
    return below[name]


for name in headers:
    reach(name)

# The fewest chains come of the largest matching of headers with headers below them, where each stands once as the upper
# and once as the lower one.
above = {}


def match(upper, seen):
    for lower in sorted(below[upper] - seen):
        seen.add(lower)
        if lower not in above or match(above[lower], seen):
            above[lower] = upper
            return True
    return False


for name in headers:
    match(name, set())

chains = []
for name in sorted(set(headers) - set(above.values())):
    chain = [name]
    while chain[-1] in above:
        chain.append(above[chain[-1]])
    chains.append(chain)
if sorted(name for chain in chains for name in chain) != sorted(headers):
    sys.exit("the chains don't hold every header once: this check is broken")


def compile_chain(chain):
    return subprocess.run(
        [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{root}/include",
         *(f"-idirafter{path}" for path in libraries), "-x", "c++", "-"],
        input="".join(f"#include <{name}>\n" for name in chain), capture_output=True, text=True, check=False)


failed = False
with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as pool:
    for chain, result in zip(chains, pool.map(compile_chain, chains)):
        if result.returncode:
            print(" ".join(chain))
            print(result.stderr)
            failed = True
print(f"{len(headers)} headers in {len(chains)} chains")
sys.exit(failed)
