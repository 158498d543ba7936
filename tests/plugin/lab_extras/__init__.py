"""One of each thing that can be added. The tests take method, task and paper from docs/extending.md."""
