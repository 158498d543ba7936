"""The command line of the Circuit Workbench. Commands parse, call one library function and emit."""
