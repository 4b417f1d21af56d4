"""``python -m backprop.serve.vetting FOLDER``: what ``vet`` runs."""

import sys
from pathlib import Path

from backprop.serve.vetting.apart import main

if __name__ == "__main__":
    main(Path(sys.argv[1]))
