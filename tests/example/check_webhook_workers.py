"""Runs the example webhook_workers and compares its tally with the log of deliveries and with the charges it left.

usage: check_webhook_workers.py PROGRAM
"""

import collections
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "data", "deliveries.csv")
failures = []


def expect(good, what):
    if not good:
        failures.append(what)
        print(f"failed: {what}")


def run(binary, *arguments, scratch, path=None):
    environment = {**os.environ, "TMPDIR": scratch}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=240, check=False,
                          env=environment)


def number(text, name):
    match = re.search(rf"^ *{name}: +(\d+)$", text, re.MULTILINE)
    expect(match, f"says how many: {name}")
    return int(match.group(1)) if match else -1


def check_tally(binary, scratch, *options):
    charges = os.path.join(scratch, "charges.log")
    result = run(binary, *options, DATA, charges, scratch=scratch)
    print(result.stdout, result.stderr)
    expect(result.returncode == 0, f"exit code 0, not {result.returncode}")
    with open(DATA, newline="", encoding="ascii") as file:
        deliveries = [row["payment_id"] for row in csv.DictReader(file)]
    payments = set(deliveries)
    with open(charges, encoding="ascii") as file:
        charged = collections.Counter(line.split()[0] for line in file)
    expect(not [id for id, times in charged.items() if times > 1], "nobody is charged twice")
    expect(set(charged) <= payments, "only payments that were delivered are charged")

    head, _, body = result.stdout.partition("\npayments:")
    doubts = dict(re.findall(r"^in doubt: (\S+): (.*)$", body, re.MULTILINE))
    body = "payments:" + body
    expect(number(head, "deliveries") == len(deliveries), "every delivery is read")
    expect(number(body, "payments") == len(payments), "every payment is in the tally")
    expect(number(body, "charged twice") == 0 and number(body, "unaccounted for") == 0, "says that all are accounted for")
    expect(number(body, "in doubt") == len(doubts), "each doubt is listed")
    expect(number(body, "charged once") + len(doubts) == len(payments), "each payment is charged or in doubt")
    expect(payments - set(charged) <= set(doubts), "what wasn't charged is in doubt")
    for payment, says in doubts.items():
        expect(says == ("the payment service has charged" if payment in charged else "the payment service has no charge"),
               f"what is said of {payment}")
    # Eight workers die in the middle of a charge, four of them after it.
    expect(number(head, "workers killed") >= 8, "workers were killed")
    expect(sum(payment in charged for payment in doubts) >= 4, "four were charged and are in doubt")
    expect(sum(payment not in charged for payment in doubts) >= 4, "four weren't charged and are in doubt")
    # The delivery that a killed worker had in hand is worked on again.
    worked_on = sum(number(head, name) for name in ("charged", "duplicates", "with another amount", "in doubt"))
    expect(worked_on >= len(deliveries), "every delivery is worked on")


def main():
    if len(sys.argv) != 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        check_tally(binary, scratch)
        expect(os.listdir(scratch) == ["charges.log"], f"leaves nothing behind: {os.listdir(scratch)}")
        os.remove(os.path.join(scratch, "charges.log"))
        if shutil.which("redis-cli"):
            check_tally(binary, scratch, "--cluster")
            expect(os.listdir(scratch) == ["charges.log"], f"leaves nothing behind: {os.listdir(scratch)}")
        result = run(binary, "absent.csv", scratch=scratch)
        expect(result.returncode == 2 and "absent.csv" in result.stderr, "a file that is not there: exit code 2")
        result = run(binary, DATA, scratch=scratch, path=scratch)
        expect(result.returncode == 2 and "redis-server" in result.stderr, "no redis-server: exit code 2")
        result = run(binary, "--help", scratch=scratch)
        expect(result.returncode == 2 and result.stderr.startswith("usage: "), "usage and exit code 2")
    if failures:
        print(f"{len(failures)} of the checks failed")
        return 1
    print("webhook_workers charges each payment at most once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
