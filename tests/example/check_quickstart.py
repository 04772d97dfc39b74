#!/usr/bin/env python3
"""Runs the quickstart example and compares what it prints with totals worked out here from the log alone.

usage: check_quickstart.py QUICKSTART [DELIVERIES.csv]

Which of several duplicates runs depends on the threads; how many run, are replayed, fail or conflict does not. Also
checked: that the log is what its script writes, and that bad input is answered by exit code 2, file and line.
"""
import collections
import csv
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "examples", "data")
HEADER = "delivered_at_ms,payment_id,attempt,amount_minor,currency,gateway_refusals"
ANSWER_MS = 10_000  # deliveries further apart than this never overlap in the replay

failures = []


def expect(holds, what):
    if not holds:
        failures.append(what)
        print("FAILED:", what)


def expected_totals(path):
    """What the log must lead to, one delivery after another, and the names quickstart prints it under."""
    class Payment:
        def __init__(self, refusals):
            self.refusals, self.unguarded_refusals = refusals, refusals
            self.charged, self.charged_at, self.unguarded_charges = None, None, 0

    totals = collections.Counter({name: 0 for name in (
        "deliveries charged replayed gateway_error conflict payments charged_once charged_twice_or_more "
        "never_charged unguarded_twice_or_more").split()})
    money, unguarded_money = collections.Counter(), collections.Counter()
    payments = {}
    with open(path, newline="", encoding="ascii") as file:
        for row in csv.DictReader(file):
            at, asked = int(row["delivered_at_ms"]), (int(row["amount_minor"]), row["currency"])
            payment = payments.setdefault(row["payment_id"], Payment(int(row["gateway_refusals"])))
            totals["deliveries"] += 1
            if payment.charged is not None and payment.charged != asked:
                # Only so is it the same delivery that conflicts in every run.
                expect(at - payment.charged_at > ANSWER_MS, f"{row['payment_id']} conflicts unambiguously")
                totals["conflict"] += 1
            elif payment.charged is not None:
                totals["replayed"] += 1
            elif payment.refusals > 0:
                payment.refusals -= 1
                totals["gateway_error"] += 1
            else:
                payment.charged, payment.charged_at = asked, at
                totals["charged"] += 1
                money[asked[1]] += asked[0]
            if payment.unguarded_refusals > 0:
                payment.unguarded_refusals -= 1
            else:
                payment.unguarded_charges += 1
                unguarded_money[asked[1]] += asked[0]
    totals["payments"] = len(payments)
    totals["charged_once"] = sum(p.charged is not None for p in payments.values())
    totals["never_charged"] = sum(p.charged is None for p in payments.values())
    totals["unguarded_twice_or_more"] = sum(p.unguarded_charges > 1 for p in payments.values())
    table = {c: (money[c], unguarded_money[c], unguarded_money[c] - money[c]) for c in unguarded_money}
    return dict(totals), table


def run(binary, *arguments):
    return subprocess.run([binary, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)


def printed_totals(output):
    totals, table = {}, {}
    for line in output.splitlines():
        counted = re.match(r" *([a-z_]+) +(\d+)(   .*)?$", line)
        if counted:
            totals[counted[1]] = int(counted[2])
        summed = re.match(r"([A-Z]{3}) +(-?\d+) +(-?\d+) +(-?\d+)$", line)
        if summed:
            table[summed[1]] = tuple(int(n) for n in summed.groups()[1:])
    return totals, table


def check_totals(binary, path):
    totals, table = expected_totals(path)
    for threads in ((), ("1",), ("2",), ("32",)):
        result = run(binary, path, *threads)
        name = f"{os.path.basename(path)} with {threads[0] if threads else 'the default'} threads"
        expect(result.returncode == 0, f"{name}: exit code {result.returncode}, {result.stderr[:300]}")
        expect(result.stderr == "", f"{name}: nothing on standard error")
        got_totals, got_table = printed_totals(result.stdout)
        for key in totals.keys() | got_totals.keys():
            expect(got_totals.get(key) == totals.get(key),
                   f"{name}: {key} is {totals.get(key)}, printed {got_totals.get(key)}")
        expect(got_table == table, f"{name}: money is {table}, printed {got_table}")
        expect("Every check holds." in result.stdout, f"{name}: every check holds")
    return totals, table


def check_shipped_log(directory):
    """The log is what the script writes, byte for byte, and large enough to mean something."""
    shipped = os.path.join(DATA, "deliveries.csv")
    again = os.path.join(directory, "again.csv")
    subprocess.run([sys.executable, os.path.join(DATA, "make_deliveries.py"), again], check=True)
    with open(shipped, "rb") as first, open(again, "rb") as second:
        expect(first.read() == second.read(), "make_deliveries.py writes deliveries.csv byte for byte")
    expect(os.path.getsize(shipped) < 3_000_000, "deliveries.csv is smaller than 3 MB")
    totals, table = expected_totals(shipped)
    for name, least in (("deliveries", 20_000), ("payments", 10_000), ("replayed", 5_000), ("gateway_error", 100),
                        ("conflict", 10), ("never_charged", 1), ("unguarded_twice_or_more", 1_000)):
        expect(totals[name] >= least, f"deliveries.csv leads to at least {least} of: {name}")
    expect(len(table) >= 3, "deliveries.csv has several currencies")
    with open(shipped, newline="", encoding="ascii") as file:
        same_moment = collections.Counter((r["delivered_at_ms"], r["payment_id"]) for r in csv.DictReader(file))
    expect(sum(n > 1 for n in same_moment.values()) >= 100, "deliveries.csv has bursts of duplicates")


def check_bad_input(binary, directory):
    good = "1772409629771,pay_A,1,100,EUR,0"
    cases = {
        "a field is missing": (f"{HEADER}\n{good}\n1772409629772,pay_B,1,100,EUR\n", 3),
        "a field too many": (f"{HEADER}\n{good},9\n", 2),
        "an empty line": (f"{HEADER}\n{good}\n\n", 3),
        "a fraction": (f"{HEADER}\n{good.replace('100', '1.00')}\n", 2),
        "a negative amount": (f"{HEADER}\n{good.replace('100', '-100')}\n", 2),
        "an amount past 64 bits": (f"{HEADER}\n{good.replace('100', '9' * 30)}\n", 2),
        "an attempt that is no number": (f"{HEADER}\n{good.replace(',1,', ',x,')}\n", 2),
        "an empty payment id": (f"{HEADER}\n{good.replace('pay_A', '')}\n", 2),
        "a lower-case currency": (f"{HEADER}\n{good.replace('EUR', 'eur')}\n", 2),
        "a line out of order": (f"{HEADER}\n{good}\n{good.replace('1772', '1771')}\n", 3),
        "refusals that change": (f"{HEADER}\n{good}\n{good[:-1]}1\n", 3),
        "another header": (f"id,amount\n{good}\n", 1),
        "an empty file": ("", 1),
    }
    path = os.path.join(directory, "bad.csv")
    for name, (text, line) in cases.items():
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        result = run(binary, path)
        expect(result.returncode == 2, f"{name}: exit code 2, not {result.returncode}")
        expect(result.stderr.startswith(f"{path}:{line}: "), f"{name}: names {path}:{line}, not: {result.stderr}")
        expect(result.stdout == "", f"{name}: prints no totals")
    for name, arguments in (("no argument", ()), ("too many", (path, "1", "2")), ("0 threads", (path, "0")),
                            ("threads that are no number", (path, "two"))):
        result = run(binary, *arguments)
        expect(result.returncode == 2 and result.stderr.startswith("usage: "), f"{name}: usage and exit code 2")
    result = run(binary, os.path.join(directory, "absent.csv"))
    expect(result.returncode == 2 and "absent.csv" in result.stderr, "a file that is not there: exit code 2")
    result = run(binary, directory)
    expect(result.returncode == 2 and directory in result.stderr, "a directory: exit code 2")

    with open(path, "w", encoding="ascii", newline="") as file:
        file.write(f"{HEADER}\r\n{good}\r\n{good}")
    expect(run(binary, path).returncode == 0, "CR LF line ends, and none after the last line, are read")


def main():
    if len(sys.argv) not in (2, 3):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    binary = os.path.abspath(sys.argv[1])
    path = sys.argv[2] if len(sys.argv) == 3 else os.path.join(DATA, "deliveries.csv")
    with tempfile.TemporaryDirectory() as directory:
        check_shipped_log(directory)
        totals, _ = check_totals(binary, path)
        check_bad_input(binary, directory)
    if failures:
        print(f"{len(failures)} of the checks failed")
        return 1
    print(f"quickstart prints what the log says: {totals['deliveries']} deliveries, {totals['payments']} payments")
    return 0


if __name__ == "__main__":
    sys.exit(main())
