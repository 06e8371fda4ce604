"""The systems of `make bench-full`: how each is started, what it can do, and the same tasks for all of them.

What a peer's own process imports (`work`, `client`, `apps/`) needs the standard library and that peer only: each peer
lives in an environment of its own, in the newest version, whatever versions of shared packages the others want.
"""
