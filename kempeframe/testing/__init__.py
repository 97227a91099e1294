"""The conformance kit: what every component has to do, as tests that plugins use for their own.

    from kempeframe.testing import conformance

    @conformance(SignDescent(learning_rate=0.1, steps=20), task=Digits(n_train=100))
    def test_sign_descent(check):
        check()

pytest lists each check by name. `check_component` runs them all at once, without pytest.
"""

from kempeframe.testing.checks import Check, ConformanceError, check_component, checks_of, conformance
from kempeframe.testing.surroundings import Around, Blobs, Line, Untouched

__all__ = [
    "Around",
    "Blobs",
    "Check",
    "ConformanceError",
    "Line",
    "Untouched",
    "check_component",
    "checks_of",
    "conformance",
]
