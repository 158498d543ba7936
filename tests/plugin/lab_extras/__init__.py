"""One of each thing that can be added; method, task and paper stand in docs/extending.md, from where the tests take them."""
