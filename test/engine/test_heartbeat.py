"""Every rank can describe what the others do, and a rank that makes no progress logs a warning."""

import logging
import time

import torch.distributed as dist

from engine.heartbeat import Heartbeat


def test_ranks_see_each_other_and_a_stuck_rank_warns(caplog):
    store = dist.HashStore()
    with caplog.at_level(logging.WARNING):
        ours, theirs = (Heartbeat(rank, 3, store, patience_seconds=0.6) for rank in (0, 1))
        theirs.at("reading the data of step 7")
        for _ in range(30):
            ours.at("computing step 7")
            time.sleep(0.05)
    text = ours.describe()
    ours.close()
    theirs.close()
    assert "rank 0: computing step 7, for 0 s" in text and "rank 2: no heartbeat yet" in text
    assert "rank 1: reading the data of step 7, for" in text
    warnings = [message for message in caplog.messages if "no progress" in message]
    assert len(warnings) == 1 and "on rank 1" in warnings[0] and "rank 0: computing step 7" in warnings[0]


def test_a_single_process_needs_no_thread():
    alone = Heartbeat()
    alone.at("reading")
    assert alone.describe() == "  rank 0: reading, for 0 s"
    alone.close()
