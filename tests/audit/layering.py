"""Rules that no compiler checks: which header may include which, what may not stand in a header at all.

usage: layering.py ROOT      prints what breaks a rule, exits 1 if anything does
       layering.py --self-test   breaks every rule once and expects to be told
"""

import pathlib
import re
import sys
import tempfile

# What a header may not reach, by however many steps. The first pattern that matches a header counts for it, so that
# a new header belongs somewhere without being named here.
DECORATOR = r"idempotent\.hpp|idem\.hpp|guard\.hpp|any_guard\.hpp|extras\.hpp|guard/.*|extras/.*"
CLAIM = r"claim\.hpp|check_lock\.hpp"
STORES = r"(memory|file|redis)_store\.hpp|.*/remote_store\.hpp"
TESTING = r"testing/.*"
RULES = [
    # Stores by the OnceOnly service, and what they are made of, are stores like others.
    (r"onceonly/(remote_store|remote_options|check_lock_with|impl/.*)\.hpp", rf"{DECORATOR}|{CLAIM}|{TESTING}"),
    (r"idem\.hpp|idempotent\.hpp|testing/.*|onceonly/.*", r"(?!)"),
    (r"guard\.hpp|any_guard\.hpp|extras\.hpp|guard/.*|extras/.*", rf"idempotent\.hpp|idem\.hpp|{TESTING}"),
    (CLAIM, rf"{DECORATOR}|{STORES}|{TESTING}"),
    (STORES, rf"{DECORATOR}|{CLAIM}|{TESTING}"),
    (r"(protocol|key|codec|failure)\.hpp|codec/.*", rf"{DECORATOR}|{CLAIM}|{STORES}|{TESTING}|(any_)?store\.hpp"),
    # Parts of the guard and of claim live in detail/ too; whoever is below these reaches them by no way, since all steps
    # of a way count.
    (r"detail/.*", rf"idempotent\.hpp|idem\.hpp|(any_)?guard\.hpp|{STORES}|{TESTING}"),
    (r".*", rf"{DECORATOR}|{CLAIM}|{STORES}|{TESTING}"),
]

# Libraries beyond the standard one, and the only headers that may include them, themselves or by way of each other: the
# groups of CMakeLists.txt. What is outside of a group builds without its library.
LIBRARIES = [
    (r"hiredis.*|openssl/.*", r"redis_store\.hpp|detail/redis/.*"),
    (r"curl/.*|nlohmann/.*", r"onceonly/.*"),
]
# What costs too much to include, and the headers that may all the same.
FORBIDDEN_HEADERS = {"functional", "filesystem", "iostream", "random", "regex", "future", "immintrin.h", "x86intrin.h"}
LET_OFF = {"future": r"onceonly/.*"}  # its asynchronous calls give one

MACROS_FILE = "detail/config.hpp"  # the one file with throw, try and catch
MAX_LINES = 450
MAX_COLUMNS = 120

# (pattern in the code without comments and strings, what is said, the header that is let off)
CODE_RULES = [
    (r"\b(throw|try|catch)\b", "uses {} itself; config.hpp has what stands for it", MACROS_FILE),
    (r"\bstd::hash\b", "uses {}, which differs between libraries and runs", None),
    (r"\batomic_thread_fence\b", "uses {}, which ThreadSanitizer does not see", None),
    (r"\bstd::(?:min|max)\s*\(", "calls {}...) without parentheses around the name", None),
    (r"::(?:min|max)\s*\(\s*\)", "calls {} without parentheses around the name", None),
    (r"\busing\s+namespace\s+std\b", "has {} in a header", None),
]
MARKS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
TEXT = {".hpp", ".cpp", ".h", ".py", ".cmake", ".txt", ".md", ".json", ".build", ".in", ".sh", ".options", ""}

TOKEN = re.compile(
    r'R"(?P<delim>[^()\\ ]{0,16})\(.*?\)(?P=delim)"' r'|"(?:\\.|[^"\\\n])*"' r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'"
    r"|//[^\n]*|/\*.*?\*/", re.DOTALL)


def code_of(text):
    """The text with comments and literals blanked, line numbers kept."""
    return TOKEN.sub(lambda m: " " + "\n" * m.group(0).count("\n"), text)


def check(root):
    complaints = []
    base = root / "include" / "idem"
    headers = {path.relative_to(base).as_posix(): path for path in sorted(base.rglob("*.hpp"))}
    if not headers:
        return ["there are no headers"]
    stray = [path for path in sorted((root / "include").rglob("*")) if path.is_file() and path.suffix != ".hpp"]
    complaints += [f"{path.relative_to(root)}: not a header" for path in stray]

    direct = {}
    for name, path in headers.items():
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()

        def say(what, line=None, name=name):
            complaints.append(f"include/idem/{name}:{f'{line}:' if line else ''} {what}")

        if not re.search(r"^#pragma once$", text, re.MULTILINE):
            say("has no #pragma once")
        if len(lines) > MAX_LINES:
            say(f"has {len(lines)} lines, more than {MAX_LINES}: split it")
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS:
                say(f"is {len(line)} columns wide", number)

        direct[name] = []
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.MULTILINE):
            number = text.count("\n", 0, match.start()) + 1
            target = match.group(2)
            if match.group(1) == '"':
                say(f'includes "{target}" in quotes', number)
            if target.startswith("idem/"):
                target = target.removeprefix("idem/")
                direct[name].append(target)
                if target not in headers:
                    say(f"includes <idem/{target}>, which is not there", number)
            elif target in FORBIDDEN_HEADERS and not re.fullmatch(LET_OFF.get(target, r"(?!)"), name):
                say(f"includes <{target}>, which costs too much", number)
            for library, allowed in LIBRARIES:
                if re.fullmatch(library, target) and not re.fullmatch(allowed, name):
                    say(f"includes <{target}>", number)

        code = code_of(text)
        for pattern, what, let_off in CODE_RULES:
            if name != let_off:
                for match in re.finditer(pattern, code):
                    say(what.format(match.group(0)), code.count("\n", 0, match.start()) + 1)

    def reached(name):
        seen, queue = {}, [(target, (name,)) for target in direct.get(name, [])]
        while queue:
            target, way = queue.pop()
            if target not in seen:
                seen[target] = way
                queue += [(after, way + (target,)) for after in direct.get(target, [])]
        return seen

    for name in headers:
        forbidden = next(not_allowed for pattern, not_allowed in RULES if re.fullmatch(pattern, name))
        for target, way in sorted(reached(name).items()):
            if target == name:
                complaints.append(f"include/idem/{name}: includes itself by way of {' -> '.join(way[1:])}")
            elif re.fullmatch(forbidden, target) or any(
                    re.fullmatch(group, target) and not re.fullmatch(group, name) for _, group in LIBRARIES):
                complaints.append(f"include/idem/{name}: may not depend on {target} ({' -> '.join(way + (target,))})")

    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if parts[0] in {".git", ".cache"} or parts[0].startswith("build") or path.suffix not in TEXT:
            continue
        if path.is_file():
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if MARKS.search(line):
                    complaints.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    return complaints


GOOD = {
    "detail/config.hpp": "#pragma once\n#include <cstdlib>\n// throw in a comment\nvoid f() { throw 1; }\n",
    "codec.hpp": '#pragma once\n#include <idem/detail/config.hpp>\nauto s = "try this std::hash";\n',
    "key.hpp": "#pragma once\n#include <idem/codec.hpp>\nauto x = (std::min)(1\'000, 2\'000);\n",
    "protocol.hpp": "#pragma once\n#include <idem/key.hpp>\n",
    "memory_store.hpp": "#pragma once\n#include <idem/protocol.hpp>\n",
    "claim.hpp": "#pragma once\n#include <idem/protocol.hpp>\n",
    "guard.hpp": "#pragma once\n#include <idem/claim.hpp>\n#include <idem/memory_store.hpp>\n",
    "idem.hpp": "#pragma once\n#include <idem/guard.hpp>\n",
    "detail/redis/wire.hpp": "#pragma once\n#include <hiredis/hiredis.h>\n",
    "redis_store.hpp": "#pragma once\n#include <idem/detail/redis/wire.hpp>\n#include <idem/protocol.hpp>\n",
    "onceonly/client.hpp": "#pragma once\n#include <curl/curl.h>\n#include <nlohmann/json.hpp>\n#include <future>\n",
    "onceonly/remote_store.hpp": "#pragma once\n#include <idem/onceonly/client.hpp>\n#include <idem/protocol.hpp>\n",
    "onceonly/forward_to.hpp": "#pragma once\n#include <idem/guard.hpp>\n#include <idem/onceonly/client.hpp>\n",
}
BAD = {
    "a store that includes the guard": ("memory_store.hpp", "#include <idem/guard.hpp>\n"),
    "a store that reaches claim by a detail": ("detail/config.hpp", "#include <idem/claim.hpp>\n"),
    "a key that knows stores": ("key.hpp", "#include <idem/memory_store.hpp>\n"),
    "claim that includes a store": ("claim.hpp", "#include <idem/memory_store.hpp>\n"),
    "a forbidden header": ("key.hpp", "#include <functional>\n"),
    "a library elsewhere": ("key.hpp", "#include <hiredis/hiredis.h>\n"),
    "everything that includes a store with a library": ("idem.hpp", "#include <idem/redis_store.hpp>\n"),
    "a detail that needs a library": ("detail/config.hpp", "#include <idem/detail/redis/wire.hpp>\n"),
    "a future outside of the client": ("key.hpp", "#include <future>\n"),
    "a costly header in the client": ("onceonly/client.hpp", "#include <regex>\n"),
    "a store of the client that includes the guard": ("onceonly/remote_store.hpp", "#include <idem/guard.hpp>\n"),
    "everything that includes the client": ("idem.hpp", "#include <idem/onceonly/forward_to.hpp>\n"),
    "quotes": ("key.hpp", '#include "codec.hpp"\n'),
    "throw": ("key.hpp", "void f() { throw 1; }\n"),
    "try after a quote": ("key.hpp", "char c = '\"'; void f() { try { } catch (...) { } }\n"),
    "std::hash": ("key.hpp", "std::hash<int> h;\n"),
    "a fence": ("key.hpp", "void f() { std::atomic_thread_fence(x); }\n"),
    "min": ("key.hpp", "int i = std::min(1, 2);\n"),
    "max()": ("key.hpp", "int i = std::numeric_limits<int>::max();\n"),
    "no pragma once": ("key.hpp", None),
    "lines": ("key.hpp", "\n" * MAX_LINES),
    "columns": ("key.hpp", "// " + "x" * MAX_COLUMNS + "\n"),
    "a mark": ("key.hpp", "// TO" + "DO later\n"),
    "a missing header": ("key.hpp", "#include <idem/nowhere.hpp>\n"),
}


def self_test():
    def tree(changed, text):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, content in GOOD.items():
                path = root / "include" / "idem" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if name == changed:
                    content = content + text if text is not None else content.replace("#pragma once", "")
                path.write_text(content, encoding="utf-8")
            return check(root)

    failures = [f"complains about a good tree: {complaint}" for complaint in tree(None, "")]
    failures += [f"does not see: {what}" for what, (name, text) in BAD.items() if not tree(name, text)]
    return failures


if __name__ == "__main__":
    found = self_test() if sys.argv[1] == "--self-test" else check(pathlib.Path(sys.argv[1]))
    print("\n".join(found))
    sys.exit(bool(found))
