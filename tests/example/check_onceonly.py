#!/usr/bin/env python3
"""Runs one of examples/onceonly against a server of its own and compares what it prints.

usage: check_onceonly.py NAME SERVER EXAMPLE
"""
import os
import subprocess
import sys

EXPECTED = {
    "webhook": """evt_1: handled
evt_2: handled
evt_1: a duplicate, first seen before
evt_3: handled
evt_2: a duplicate, first seen before
evt_1: a duplicate, first seen before
3 of 6 deliveries were handled
""",
    "agent_tool": """in_1 by stripe.charge: executed
in_1 by stripe.charge: dedup
in_2 by stripe.charge: executed
in_3 by stripe.charge: blocked, max_spend_usd_per_day
in_4 by shell.exec: blocked, tool_not_allowed
in_5 by stripe.charge: blocked, agent_disabled
6 actions, 3 blocked, 8.00 dollars spent
""",
    "long_job": """first:  completed {"job_ms":300,"report":"march","run_id":"run_9"}
second: completed {"job_ms":300,"report":"march","run_id":"run_9"}
paid for: {"kind":"ai","limit":1000000,"usage":1}
""",
    "local_effect": """mail to ann
run_fn: completed {"message_id":"m_1"}
run_fn: completed {"message_id":"m_1"}
mail to bob
guard: executed {"message_id":"m_2"}
guard: replayed {"message_id":"m_2"}
""",
    "timeline": """step  fetch      ok        
tool  pdf.render executed  
step  mail       failed    the mail server is away
the run is failed; its mail: failed, fn_error
""",
}

name, server_path, example_path = sys.argv[1:]
server = subprocess.Popen([server_path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
try:
    port = int(server.stdout.readline())
    environment = {**os.environ, "ONCEONLY_API_KEY": "once_example", "ONCEONLY_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    result = subprocess.run([example_path], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                            timeout=60)
finally:
    server.terminate()
    server.wait(timeout=30)
print(result.stdout, result.stderr, sep="", end="")
if result.returncode != 0 or result.stderr or result.stdout != EXPECTED[name]:
    sys.exit(f"exit code {result.returncode}; expected:\n{EXPECTED[name]}")
if server.returncode != 0:
    sys.exit(f"the server ended with {server.returncode} when it was asked to end")
