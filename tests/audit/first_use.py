#!/usr/bin/env python3
"""No function of idem's makes a static object when it is first called: a child that was forked while another thread was
making it would wait for that thread for ever. Looks for the guards by which a program's threads wait for each other.

usage: first_use.py NM PROGRAM
"""
import re
import subprocess
import sys

# Of a claim that was moved from, which nobody asks for its key.
ALLOWED = {"Claim::key() const::none"}


def main() -> int:
    nm, program = sys.argv[1:]
    symbols = subprocess.run([nm, "-C", program], check=True, capture_output=True, text=True).stdout
    if "idem::" not in symbols:
        print(f"{program} has no symbols of idem's")
        return 1
    made = set(re.findall(r"guard variable for idem::(?:v\d+::)?(.*)", symbols)) - ALLOWED
    for name in sorted(made):
        print(f"made when first used: {name}")
    return 1 if made else 0


if __name__ == "__main__":
    sys.exit(main())
