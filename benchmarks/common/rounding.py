"""Numbers as they are written into JSON."""


def rounded(value):
    """Four digits for all numbers in something that becomes JSON."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, (list, tuple)) else value
