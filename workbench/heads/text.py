"""A small English text of our own: what a portrait reads where the tokenizer knows the words and no corpus is given.

It repeats names and phrases as prose does, has numbers, a list and dialogue, and says nothing true about anyone.
"""

from __future__ import annotations

TEXT = """\
The lighthouse at Kerrow stands on a rock that the tide cuts off twice a day. Anna Pell has kept it for nineteen
years, and her brother Martin brings her bread, lamp oil and letters every second Thursday. When the tide is low,
Martin walks over the wet stones with the letters under his coat. When the tide is high, he waits in the boat house
and reads the letters that are not for him.

On the third of March a storm came up from the south. Anna lit the lamp at four in the afternoon, two hours early,
because the clouds were so dark that the gulls had gone to sleep. By five the waves reached the lower window. By six
they reached the upper window, and Anna carried the log book, the clock and the cat up to the lamp room. "If the glass
holds, we hold," she said to the cat. The cat looked at the lamp, then at the waves, then at Anna, and went to sleep.

The glass held. At nine in the evening Anna saw a light that did not belong to the sea. It was low and yellow, and it
moved as a lantern moves in the hand of someone who is running. She counted the seconds between one swing and the
next, as her father had taught her: a ship rolls slowly, a man runs quickly. It was a man. It was Martin, on the
stones, with the tide around his knees.

Anna did what the rules of the lighthouse do not allow. She turned the lamp away from the sea and pointed it at the
path. For eleven minutes no ship could have seen the lighthouse at Kerrow, and for eleven minutes Martin could see
every stone. He came in through the lower door with the water behind him, and he had no bread, no lamp oil and no
letters. "You turned the lamp," said Martin. "You were on the path," said Anna. "No ship was near," said Martin. "I did
not know that," said Anna, "and neither did you."

In the morning the sea was flat and green. Anna wrote in the log book: wind south, then west; glass whole; lamp turned
from nine fifteen to nine twenty-six, my decision, no harm. Under it she made a list of what had to be mended.

1. The lower door: two hinges, one bolt.
2. The upper window: putty, and paint when it is dry.
3. The boat house: a new lock, and fewer letters inside it.
4. The cat: nothing; the cat is well.

The inspector read the log book in May. He was a careful man called Mr. Orme, who counted everything: the steps of the
stair (there are 112), the panes of the lamp (there are 24), the days since the last inspection (there were 731). He
read the line about the lamp twice. Then he asked how a lamp of 24 panes can be turned by one person in the dark, and
Anna showed him. Mr. Orme counted the turns of the handle; there were 36. He closed the log book and said that the
rules had been written by people who had never stood in the lamp room, that he would say so in his report, and that
the lower door still had only one hinge.

Martin mended the lower door. He put on two hinges and one bolt, and he painted the upper window when it was dry. He
also mended the lock of the boat house, and after that the letters that came to Kerrow were read by the people they
were written to. Every second Thursday he walks over the wet stones with bread, lamp oil and letters under his coat.
When the tide is high, he waits. When a storm comes up from the south, Anna lights the lamp two hours early, the gulls
go to sleep, and the cat goes up to the lamp room by itself.
"""
