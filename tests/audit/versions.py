"""The version is written in config.hpp; Meson and the change log repeat it and have to agree."""

import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])


def found(path, pattern):
    match = re.search(pattern, (root / path).read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1) if match else None


parts = [found("include/idem/detail/config.hpp", rf"^#define IDEM_VERSION_{part} +(\d+)$")
         for part in ("MAJOR", "MINOR", "PATCH")]
version = ".".join(str(part) for part in parts)
others = {
    "meson.build": found("meson.build", r"^  version: '([^']*)',$"),
    "CHANGELOG.md": found("CHANGELOG.md", r"^## (\d+\.\d+\.\d+)"),
}
wrong = {path: other for path, other in others.items() if other != version}
for path, other in wrong.items():
    print(f"{path} says {other}, config.hpp {version}")
sys.exit(bool(wrong))
