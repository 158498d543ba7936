"""The door for programs: tools made from the commands' dataclasses, kept inside one folder, served over stdio."""
