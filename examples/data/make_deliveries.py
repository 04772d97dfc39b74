#!/usr/bin/env python3
"""Writes deliveries.csv: a day of payments as a provider's webhooks deliver them, at least once each.

usage: make_deliveries.py [OUTPUT]        (default: deliveries.csv beside this script)

The output is the same byte for byte on every machine: only integers and random.random() are used, the one generator
that Python promises to keep for a given seed. README.md beside this script says what is modelled and after whom.
"""
import os
import random
import sys

SEED = 20260302
PAYMENTS = 12_000
START_MS = 1_772_409_600_000          # 2026-03-02T00:00:00Z
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
LOG_ENDS_MS = START_MS + 4 * 24 * HOUR

# How many of a day's payments begin in each hour, UTC, relative to each other. 20:00 has a sale.
HOURLY = [3, 2, 1, 1, 1, 2, 4, 8, 12, 14, 15, 16, 17, 16, 15, 15, 16, 18, 20, 24, 40, 22, 12, 6]

# Our own endpoint is down in between; what is sent then never arrives and is sent again later.
OUTAGES = [(START_MS + 13 * HOUR + 5 * MINUTE, START_MS + 13 * HOUR + 27 * MINUTE),
           (START_MS + 31 * HOUR, START_MS + 31 * HOUR + 4 * MINUTE)]

# Two ways to space retries: time from one attempt to the next.
DOCUMENTED = [9 * SECOND, 9 * SECOND, 9 * SECOND, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
              HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 8 * HOUR, 8 * HOUR, 8 * HOUR]
EXPONENTIAL = [5 * MINUTE, 15 * MINUTE, 45 * MINUTE, 135 * MINUTE, 405 * MINUTE, 1215 * MINUTE, 30 * HOUR]

# Currency, share of payments, smallest and largest usual amount in its minor unit, step of a price. JPY has no minor
# unit below the yen, KWD has three decimals of which the last is always 0 (see README.md).
CURRENCIES = [("EUR", 46, 299, 24_900, 1), ("USD", 27, 199, 29_900, 1), ("GBP", 14, 249, 19_900, 1),
              ("JPY", 9, 120, 39_800, 1), ("KWD", 4, 500, 45_000, 10)]

# Deliveries this far apart never overlap in the replay: a provider gives up waiting for an answer after ten seconds.
ANSWER_MS = 10 * SECOND

rng = random.Random(SEED)


def below(n):
    """A number from 0 to n - 1."""
    return int(rng.random() * n)


def chance(percent):
    return rng.random() * 100 < percent


def weighted(weights):
    point = below(sum(weights))
    for index, weight in enumerate(weights):
        point -= weight
        if point < 0:
            return index
    raise AssertionError


def payment_id(used):
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    while True:
        text = "pay_" + "".join(alphabet[below(32)] for _ in range(12))
        if text not in used:
            used.add(text)
            return text


def amount(low, high, step):
    """Small amounts are more frequent than large ones: the lower of two."""
    first, second = below(high - low), below(high - low)
    return (low + min(first, second)) // step * step


def is_down(at):
    return any(begin <= at < end for begin, end in OUTAGES)


def deliveries_of(created, schedule, refusals, lossy):
    """(time, attempt) of every delivery of one payment that arrives."""
    arrived = []
    sent = created
    for attempt in range(1, len(schedule) + 2):
        if sent >= LOG_ENDS_MS:
            break
        # On its way: mostly a fraction of a second; now and then a sender's queue holds it back for minutes, so that
        # a later attempt overtakes it.
        at = sent + 20 + below(400)
        if attempt > 1 and chance(3):
            at += MINUTE + below(20 * MINUTE)
        acknowledged = False
        if not is_down(at) and at < LOG_ENDS_MS:
            arrived.append((at, attempt))
            if chance(6):  # several senders took the same job from the queue: copies in the very same millisecond
                arrived.extend([(at, attempt)] * (1 + below(5)))
            if len(arrived) > refusals:
                # Charged. Whether the provider hears of it is another matter: time-outs, lost answers, restarts.
                acknowledged = not chance(55 if lossy else 14)
        if acknowledged:
            break
        if attempt <= len(schedule):
            step = schedule[attempt - 1]
            sent += step + (below(step // 10) if schedule is EXPONENTIAL else below(SECOND))
    return arrived


def main():
    used = set()
    rows = []
    for _ in range(PAYMENTS):
        created = START_MS + weighted(HOURLY) * HOUR + below(HOUR)
        if chance(2):  # a batch: subscriptions that renew on the minute
            created -= created % MINUTE
        name = payment_id(used)
        currency, _, low, high, step = CURRENCIES[weighted([c[1] for c in CURRENCIES])]
        price = amount(low, high, step)
        schedule = DOCUMENTED if chance(55) else EXPONENTIAL
        refusals = (1 + weighted([70, 22, 8])) if chance(5) else 0
        never = chance(0.1)  # a gateway that refuses this one for as long as the log goes on
        if never:
            refusals = 99
        arrived = deliveries_of(created, schedule, refusals, lossy=chance(35))
        for at, attempt in arrived:
            rows.append((at, name, attempt, price, currency, refusals))
        # A shop that takes an old id for an amended order. Only after the payment went through, so that which of the
        # two amounts is the first one does not depend on how threads are scheduled.
        if not never and len(arrived) > refusals and chance(0.4):
            charged_at = sorted(arrived)[refusals][0]
            at = charged_at + HOUR + below(20 * HOUR)
            if at < LOG_ENDS_MS and not is_down(at):
                assert at > charged_at + ANSWER_MS
                other = price + step * (1 + below(500))
                copies = 1 + below(2)
                rows.extend([(at, name, 1, other, currency, refusals)] * copies)
    rows.sort()

    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                              "deliveries.csv")
    with open(output, "w", encoding="ascii", newline="\n") as file:
        file.write("delivered_at_ms,payment_id,attempt,amount_minor,currency,gateway_refusals\n")
        for row in rows:
            file.write(",".join(map(str, row)) + "\n")


if __name__ == "__main__":
    main()
