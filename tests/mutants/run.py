"""Puts known bugs back, one by one, and expects a test to turn red. See README.md beside this file.

usage: run.py [--build FOLDER] [--jobs N] [--list] [ID...]
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent

parser = argparse.ArgumentParser()
parser.add_argument("--build", type=pathlib.Path, default=root / "build" / "mutants")
parser.add_argument("--jobs", default=str(os.cpu_count() or 2))
parser.add_argument("--table", type=pathlib.Path, default=here / "table.txt")
parser.add_argument("--list", action="store_true")
parser.add_argument("ids", nargs="*")
arguments = parser.parse_args()


class Mutant:
    def __init__(self, line, number):
        fields = [field.strip() for field in line.split(" | ")]
        if len(fields) != 5:
            sys.exit(f"{arguments.table}:{number}: five fields separated by ' | ' are wanted, here are {len(fields)}")
        self.id, self.file, self.pattern, self.replacement, self.test = fields


lines = arguments.table.read_text(encoding="utf-8").splitlines()
mutants = [Mutant(line, number) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
if unknown := set(arguments.ids) - {mutant.id for mutant in mutants}:
    sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
mutants = [mutant for mutant in mutants if not arguments.ids or mutant.id in arguments.ids]
if arguments.list:
    for mutant in mutants:
        print(f"{mutant.id}: {mutant.file}, to be seen by {mutant.test}")
    sys.exit(0)
if not mutants:
    print("the table holds no mutants")
    sys.exit(0)

tree = arguments.build / "tree"
build = arguments.build / "build"


def copy(folder):
    """Copies what changed only, so that a second run rebuilds little."""
    for path in (root / folder).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = tree / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != path.read_bytes():
                shutil.copy(path, target)


def remove_strays(folder):
    for path in (tree / folder).rglob("*"):
        if path.is_file() and not (root / path.relative_to(tree)).exists():
            path.unlink()


for folder in ("include", "tests", "cmake"):
    copy(folder)
    remove_strays(folder)
shutil.copy(root / "CMakeLists.txt", tree)


def command(*words):
    return subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, check=False)


launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []


# Where the files of each program of tests stand, the option that chooses among them, and where it is built.
programs = [("tests", "IDEM_TESTS", "tests/idem_tests"),
            ("tests/redis", "IDEM_REDIS_TESTS", "tests/redis/idem_redis_tests"),
            ("tests/onceonly", "IDEM_ONCEONLY_TESTS", "tests/onceonly/idem_onceonly_tests")]


def place_of(test):
    """The program, and the name without test_ and .cpp of the one file, that has a test of this name."""
    text = test.split("*")[0]
    found = [(program, path.stem[len("test_"):]) for program in programs
             for path in sorted((tree / program[0]).glob("test_*.cpp")) if text in path.read_text(encoding="utf-8")]
    return found[0] if len(found) == 1 else None


def configure(program, file):
    """Only that file is built: a mutant in a header that all include would else cost minutes."""
    # Without one for the unit tests, every program would be made whole.
    chosen = {"IDEM_TESTS": "nothing", "IDEM_REDIS_TESTS": "", "IDEM_ONCEONLY_TESTS": "", program[1]: file}
    configured = command("cmake", "-S", tree, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                         "-DCMAKE_CXX_FLAGS_DEBUG=-O0", "-DIDEM_BUILD_EXAMPLES=OFF",
                         *(f"-D{option}={value}" for option, value in chosen.items()), *launcher)
    if configured.returncode:
        sys.exit(configured.stdout)


def build_tests(program):
    return command("cmake", "--build", build, "--parallel", arguments.jobs, "--target", pathlib.Path(program[2]).name)


def run_test(program, test):
    """True, False (red) or None: the name fits no test."""
    try:
        result = subprocess.run([build / program[2], f"--test-case={test}"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return False
    if re.search(r"test cases: +0 ", result.stdout):
        return None
    return result.returncode == 0


survivors = []
for mutant in mutants:
    path = tree / mutant.file
    original = path.read_text(encoding="utf-8")
    changed, count = re.subn(mutant.pattern, mutant.replacement, original)
    place = place_of(mutant.test)
    program = place[0] if place is not None else None
    if program is not None:
        configure(*place)
        built = build_tests(program)
        if built.returncode:
            sys.exit("the tests don't build even without a mutant\n" + built.stdout)
    if count != 1:
        verdict = f"BROKEN: the pattern fits {count} places in {mutant.file}, not one"
    elif program is None or run_test(program, mutant.test) is not True:
        verdict = f"BROKEN: without the mutant there is no green test named {mutant.test}"
    else:
        path.write_text(changed, encoding="utf-8")
        try:
            built = build_tests(program)
            if built.returncode:
                verdict = "BROKEN: the mutant doesn't compile\n" + built.stdout
            else:
                verdict = "survived" if run_test(program, mutant.test) else "killed"
        finally:
            path.write_text(original, encoding="utf-8")
    print(f"{mutant.id}: {verdict}", flush=True)
    if verdict != "killed":
        survivors.append(mutant.id)

print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed")
sys.exit(bool(survivors))
