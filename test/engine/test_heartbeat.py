"""A rank says where the others are, and complains of itself when it gets nowhere."""

import logging
import time

import torch.distributed as dist

from engine.heartbeat import Heartbeat


def test_ranks_hear_of_each_other(caplog):
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
    assert "rank 0: computing step 7, for 0 s" in text and "rank 2: not heard of" in text
    assert "rank 1: reading the data of step 7, for" in text
    complaints = [message for message in caplog.messages if "no progress" in message]
    assert len(complaints) == 1 and "on rank 1" in complaints[0] and "rank 0: computing step 7" in complaints[0]


def test_one_process_alone_has_no_thread():
    alone = Heartbeat()
    alone.at("reading")
    assert alone.describe() == "  rank 0: reading, for 0 s"
    alone.close()
