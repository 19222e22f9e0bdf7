"""The commands `walrus` (main.py and its neighbours) and `walrus-cli` (native.py).

Nothing heavy is imported before a command runs, so that `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 the command line or the settings cannot be meant.
"""
