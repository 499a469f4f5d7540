"""Write a trained model in another form: ``python src/export.py run=<id> format=onnx``; see ``--help``."""

import sys

from foretrace.commands.cli import main

if __name__ == "__main__":
    sys.exit(main("export"))
