"""Compiles one case with each compiler and expects it to be refused with the right words.

usage: run.py INCLUDE_FOLDER CASE COMPILER...

A case begins with `// expect: WORDS`, or `// expect(g++): WORDS` / `// expect(clang): WORDS` for one kind of compiler; a
kind that isn't named is not tried. The words must stand in an error of the compiler. With -DIDEM_CORRECTED the same
file must compile, so that it fails for the reason named and no other.

Where one sentence each is wanted for many types, `// expect [TYPE]: WORDS` compiles the file with IDEM_CASE defined as
TYPE, and once with -DIDEM_CORRECTED.
"""

import re
import subprocess
import sys

include, case, *compilers = sys.argv[1:]

with open(case, encoding="utf-8") as source:
    lines = [re.fullmatch(r"// expect(?:\((g\+\+|clang)\))?(?: \[(.+?)\])?: (.+)\n", line) for line in source]
expectations = [match.groups() for match in lines if match]
if not expectations:
    sys.exit(f"{case}: no line `// expect: WORDS`")


def compile_case(compiler, *options):
    return subprocess.run(
        [compiler, "-std=c++20", "-fsyntax-only", f"-I{include}", *options, case],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


failed = False
tried = 0
for compiler in compilers:
    compiler_kind = "clang" if "clang" in compiler else "g++"
    wanted = [(of_type, words) for kind, of_type, words in expectations if kind in {None, compiler_kind}]
    if compiler != compilers[0]:
        # Each try costs a second, and the words come from one place: one type shows that this compiler prints them.
        types = [pair for pair in wanted if pair[0]]
        wanted = [pair for pair in wanted if not pair[0]] + types[:1]
    for of_type, words in wanted:
        tried += 1
        name = f"{compiler}{f' [{of_type}]' if of_type else ''}"
        # Only the errors themselves count: around them compilers quote lines of the case, which may hold the words too.
        refused = compile_case(compiler, *([f"-DIDEM_CASE={of_type}"] if of_type else []))
        output = " ".join(line for line in refused.stdout.splitlines() if "error:" in line)
        if refused.returncode == 0:
            print(f"{name}: compiles, but must not")
            failed = True
        elif words not in output:
            print(f"{name}: does not say: {words}\n{refused.stdout}")
            failed = True
    if wanted:
        corrected = compile_case(compiler, "-DIDEM_CORRECTED")
        if corrected.returncode != 0:
            print(f"{compiler}: the corrected case must compile\n{corrected.stdout}")
            failed = True
if not tried:
    print("no compiler tried it")
    failed = True
sys.exit(failed)
