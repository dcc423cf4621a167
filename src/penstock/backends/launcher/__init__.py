"""Starts the jobs of one batch, waits for them, writes down how they ended: an own program.

Why a process for each batch: only a parent learns an exit code, and the server may be away when a
job ends. It runs on the bare standard library (``-I -S``, nothing of ours but this package): it
starts in some 20 ms and holds 10 MB. As root it keeps no secret: the request comes through a pipe,
and its memory is given up once the jobs run.

The order is the point. Every child takes on the user's identity, writes its files *as that user*,
and waits at a gate. Only when all stand there are their pids written to the journal, and only then
does the gate open. A launcher killed before that leaves a gate that closes, and no child ever runs.
So the batch starts as a whole or not at all, and whatever runs is on record.

Request: one JSON object on standard input, byte strings in base64. Answer: one JSON object on
standard output, {"ok": true} or {"ok": false, "kind": "rejected" | "unavailable", "text": "..."}.
"""
