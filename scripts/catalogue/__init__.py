"""docs/failures.md: every error code, what is said with it, and the tests that provoke it for real."""
