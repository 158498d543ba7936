"""Which of TransformerLens' architectures open, and whether turning off each of their heads is what plain torch says.

python -m benchmarks.families                 goes through every name and writes docs/families.md
python -m benchmarks.families GPT2LMHeadModel  shows the rows of these names
"""
