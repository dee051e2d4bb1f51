"""Array libraries that the suite is tried on, none of which the package knows."""
