"""Compiles one case with each compiler and expects it to be refused with the right words.

usage: run.py INCLUDE_FOLDER CASE COMPILER...

A case begins with `// expect: WORDS`, or `// expect(g++): WORDS` / `// expect(clang): WORDS` for one kind of compiler; a
kind that isn't named is not tried. The words must stand in an error of the compiler. With -DIDEM_CORRECTED the same
file must compile, so that it fails for the reason named and no other.

Where one sentence each is wanted for many types, `// expect [TYPE]: WORDS` compiles the file with IDEM_CASE defined as
TYPE, and once with -DIDEM_CORRECTED. All types are compiled at once, each with a copy of the file that has a name and a
namespace of its own, which tells whose an error is.
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


def compile_text(compiler, text):
    return subprocess.run(
        [compiler, "-std=c++20", "-fsyntax-only", f"-I{include}", *(["-ferror-limit=0"] if "clang" in compiler else []),
         "-x", "c++", "-"],
        input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def copy_of(name, of_type):
    """The case as a file of that name, for this type where there are types."""
    text = f'#line 1 "{name}"\n{without_includes}\n'
    return f"#undef IDEM_CASE\n#define IDEM_CASE {of_type}\nnamespace {name} {{\n{text}}}\n" if of_type else text


def errors_by_name(compiler_kind, output):
    """The errors of the compiler's output by the name of the copy that they are about."""
    found = {}
    blocks = [[]]  # an error and the lines up to the next one
    for line in output.splitlines():
        if "error:" in line:
            blocks.append([])
        blocks[-1].append(line)
    names = set()
    for before, block in zip(blocks, blocks[1:]):
        # How an instance came about clang tells after an error; g++ before it, unless it is that of the error before.
        around = block
        if compiler_kind == "g++":
            begins = [i for i, line in enumerate(before) if re.match(r"\S+: In ", line)]
            around = before[begins[-1]:] + block[:1] if begins else block[:1]
        told = set(re.findall(r"^(case_\d+):\d+:", "\n".join(around), re.MULTILINE))
        names = told or names
        for name in names:
            found.setdefault(name, []).append(block[0])
    return found


with open(case, encoding="utf-8") as source:
    text = source.read()
includes = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("#include"))
without_includes = "\n".join("" if line.startswith("#include") else line for line in text.splitlines())

failed = False
tried = 0
for compiler in compilers:
    compiler_kind = "clang" if "clang" in compiler else "g++"
    wanted = [(of_type, words) for kind, of_type, words in expectations if kind in {None, compiler_kind}]
    if compiler != compilers[0]:
        # The words come from one place: one type shows that this compiler prints them.
        types = [pair for pair in wanted if pair[0]]
        wanted = [pair for pair in wanted if not pair[0]] + types[:1]
    if not wanted:
        continue
    tried += len(wanted)
    # Only the errors themselves count: around them compilers quote lines of the case, which may hold the words too.
    refused = compile_text(compiler, includes + "".join(copy_of(f"case_{i}", of_type)
                                                        for i, (of_type, _) in enumerate(wanted)))
    errors = errors_by_name(compiler_kind, refused.stdout)
    for i, (of_type, words) in enumerate(wanted):
        name = f"{compiler}{f' [{of_type}]' if of_type else ''}"
        if f"case_{i}" not in errors:
            print(f"{name}: compiles, but must not\n{refused.stdout}")
            failed = True
        elif not any(words in error for error in errors[f"case_{i}"]):
            print(f"{name}: does not say: {words}\n{refused.stdout}")
            failed = True
    corrected = compile_text(compiler, f"#define IDEM_CORRECTED\n{includes}{copy_of('corrected', '')}")
    if corrected.returncode != 0:
        print(f"{compiler}: the corrected case must compile\n{corrected.stdout}")
        failed = True
if not tried:
    print("no compiler tried it")
    failed = True
sys.exit(failed)
