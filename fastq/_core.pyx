# cython: auto_pickle=False, autotestdict=False
"""The compiled core: rings in shared memory, replies, envelopes, and the ledger that joins them.

It imports nothing of fastq. Bytes, views and numbers go in and out. `_core.pyi` is the contract;
each part below is one idea, in the order in which a message meets them.
"""
include "_core/layout.pxi"
include "_core/debug.pxi"
include "_core/wake.pxi"
include "_core/segment.pxi"
include "_core/board.pxi"
include "_core/tally.pxi"
include "_core/buffer.pxi"
include "_core/events.pxi"
include "_core/ring.pxi"
include "_core/flights.pxi"
include "_core/json.pxi"
include "_core/envelope.pxi"
include "_core/packed.pxi"
include "_core/names.pxi"
include "_core/ledger.pxi"
include "_core/resp.pxi"
include "_core/body.pxi"
include "_core/plain.pxi"
include "_core/result.pxi"
include "_core/run.pxi"
include "_core/aloft.pxi"
