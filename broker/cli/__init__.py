"""The commands `walrus` (main.py and its neighbours) and `walrus-cli` (native.py).

Nothing heavy is imported before a command runs, so that `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 the command line or the settings cannot be meant.

serve.py     a node; banner.py what it says           dev.py       one or several, to try things
settings.py  `walrus config`; options.py its flags    doctor.py    advice, from checks.py
cluster.py   who is in it, who leads what             group.py     groups, by group_calls.py
inspect.py   what a stored file holds                 truncate.py  the remedy for a corrupt one
recover_metadata.py  the remedy for most disks lost

decommission.py, forget.py, unclean_seal.py and drop_surplus.py are what an operator does to a
cluster. They ask by admin_client.py, kafka_client.py and native_client.py; shapes.py is what they
have in common, lean.py keeps imports small.
"""
