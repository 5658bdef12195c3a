"""The `prospect` command from a checkout, without installing it: python cli.py COMMAND (see prospect/commands/)."""

from prospect.commands.app import app

if __name__ == "__main__":
    app()
