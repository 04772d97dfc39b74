#!/usr/bin/env python3
"""Runs the nightly report as the README does: killed half-way, resumed, started once more, and by two at once.

usage: check_nightly_report.py NIGHTLY_REPORT
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOG = os.path.join(ROOT, "examples", "data", "deliveries.csv")
PROGRAM = os.path.abspath(sys.argv[1])
DATE = "2026-03-02"

failures = []


def expect(holds, what):
    if not holds:
        failures.append(what)
        print("FAILED:", what)


def run(where, *arguments):
    done = subprocess.run([PROGRAM, *arguments], cwd=where, capture_output=True, text=True, timeout=60)
    print(done.stdout, done.stderr, sep="")
    return done


def outbox(where):
    with open(os.path.join(where, "nightly_report.d", "outbox.csv"), encoding="utf-8") as file:
        return [line.split(",")[1] for line in file]


with tempfile.TemporaryDirectory() as where:
    killed = run(where, DATE, LOG, "--die-half-way")
    expect(killed.returncode == -9, "the first run is killed by SIGKILL")
    expect(outbox(where) == ["EUR", "GBP"], "two of five statements are out")
    resumed = run(where, DATE, LOG)
    expect(resumed.returncode == 0 and "resumed and finished" in resumed.stdout, "the second run resumes")
    again = run(where, DATE, LOG)
    expect(again.returncode == 0 and "nothing sent" in again.stdout, "the third run sends nothing")
    expect(outbox(where) == ["EUR", "GBP", "JPY", "KWD", "USD"], "each statement is out once")

with tempfile.TemporaryDirectory() as where:
    both = [subprocess.Popen([PROGRAM, DATE, LOG], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for _ in range(2)]
    texts = sorted(process.communicate(timeout=60)[0].decode() for process in both)
    expect(all(process.returncode == 0 for process in both), "of two at once both succeed")
    expect(sum("sent now" in text for text in texts) == 1, "of two at once one sends")
    expect(sorted(outbox(where)) == ["EUR", "GBP", "JPY", "KWD", "USD"], "of two at once each statement is out once")
with tempfile.TemporaryDirectory() as where:
    expect(run(where, DATE, "/no/such/log").returncode == 2, "a log that isn't there is exit code 2")
    expect("sent now" in run(where, DATE, LOG).stdout, "and leaves the day free to be reported")
    expect(run(where, "2026-03-99", LOG).returncode == 2, "a day without payments is exit code 2")
    expect(run(where, "tomorrow").returncode == 2, "a date that isn't one is exit code 2")

sys.exit(1 if failures else 0)
