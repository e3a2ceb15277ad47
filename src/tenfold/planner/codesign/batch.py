"""What large batches cost: tokens needed grow by 1 + B / B_critical.

McCandlish et al. (arXiv 1812.06162, equation 2.11) derive the form. Its size is from Zhang et al. (arXiv 2410.21676),
who measured which batch needs 20% more tokens for models of 85 M to 1.2 B: 22.91 D^0.47, D in millions of training
tokens, in sequences of 512; it hardly depends on the model's size. The batch that needs twice the tokens is five times
as large. Bergsma et al. (arXiv 2505.13738) find nearly the same exponent; Kaplan et al. (arXiv 2001.08361) tied it to
the loss instead.
"""

import math

TWENTY_PERCENT = 22.91 * 512
EXPONENT = 0.47
MILLION = 1e6
ROUNDS = 60


def critical_batch(tokens: float, measured: float | None = None) -> float:
    """Batch, in tokens, at which twice the tokens are needed, for a run of `tokens`; `measured` replaces the law."""
    if measured is not None:
        return measured
    return TWENTY_PERCENT / 0.2 * math.pow(tokens / MILLION, EXPONENT)


def tokens_needed(tokens: float, batch: float, measured: float | None = None) -> float:
    """Tokens that reach with this batch what `tokens` reach with a small one."""
    return tokens * (1 + batch / critical_batch(tokens, measured))


def tokens_worth(trained: float, batch: float, measured: float | None = None) -> float:
    """The inverse of `tokens_needed`: what `trained` tokens are worth, by bisection in logarithms."""
    low, high = math.log(trained) - ROUNDS, math.log(trained)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if tokens_needed(math.exp(middle), batch, measured) > trained:
            high = middle
        else:
            low = middle
    return math.exp((low + high) / 2)
