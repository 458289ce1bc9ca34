"""The suite."""

import pytest

pytest.register_assert_rewrite("tests.support")  # so that an assert there shows its values too
