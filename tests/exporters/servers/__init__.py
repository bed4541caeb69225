"""Applications under real servers, and what starts, loads and ends them (`harness`)."""
