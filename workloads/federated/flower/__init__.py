"""Federations over Flower's network: the same rounds, with clients in processes and machines of their own.

:mod:`.server_app` and :mod:`.client_app` are what Flower runs, :mod:`.deployment` submits them, to a SuperLink that is
there or to one that it starts on this machine. Flower is an optional extra; only these modules import it.
"""
