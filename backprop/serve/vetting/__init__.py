"""Whether an uploaded model may be served: ``vet`` reads JSON and headers, and runs nothing."""

from backprop.serve.vetting.apart import vet

__all__ = ["vet"]
