"""`python -m prospect`: the command, wherever the package is."""

from prospect.commands.app import app

app(prog_name="prospect")
