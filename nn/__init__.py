"""Neural networks on agnostic_ad, under the names of ``torch.nn``."""
