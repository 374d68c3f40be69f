"""An upstream of our own, with certificates of our own: for `flow-rotate demo` and the tests."""
