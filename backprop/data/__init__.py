"""Training data in any form people have it: read, checked as a whole before work starts, split."""

from backprop.data.fingerprints import fingerprint
from backprop.data.reading import Data, keys, read
from backprop.data.splitting import split

__all__ = ["Data", "fingerprint", "keys", "read", "split"]
