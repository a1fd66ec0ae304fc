"""What language models are asked; the modules that parse the answers define their form.

These texts are part of rows' ids: a changed word makes every row of its stage anew.
"""

MANNERS = {
    "imaginative": (
        "that do not exist but could be drawn: unusual materials, shapes, hybrids and fantasies, each with"
        " looks of its own that an illustrator could not confuse with another's"
    ),
    "realistic": (
        "as one could photograph them today: particular kinds, makes, breeds or styles, told apart by colour,"
        " material, pattern and wear"
    ),
    "with text": (
        "that bear writing: the words stand in double quotes in the description, one to four of them, such as"
        ' enamel mug with "HELLO" in red letters'
    ),
}

SUBJECTS = """\
List {count} different subjects that are each a kind of "{category}" ({group}), {manner}.
Each is a noun phrase in English of at most {max_words} words, without an article in front, that \
describes one thing and how it looks, and neither a place nor an action. No two may look alike, and no \
name of a living person or of a character that somebody owns may occur.
Answer with JSON alone: {{"subjects": ["...", "..."]}}"""

SCENES = """\
A picture shows {subject} (a kind of {category}). Think of {count} scenes in which one could come across \
it, as different from each other as possible in place, light, weather, time of day and season.
Each is one line in English of at most {max_words} words that continues the sentence "a picture of it \
...", beginning with a preposition, such as "on a wet pier at dawn, fog over the water". A scene must not \
change how the subject looks, must not name it again, and shows no other eye-catching thing.
Answer with JSON alone: {{"scenes": ["...", "..."]}}"""

PLAIN_SCENES = """\
{subject} (a kind of {category}) is photographed for a catalogue. Think of {count} plain backgrounds for \
it, as different from each other as possible in colour, surface and studio light, with nothing else in \
the picture.
Each is one line in English of at most {max_words} words that continues the sentence "a picture of it \
...", beginning with a preposition, such as "on pale grey paper in soft light from the left".
Answer with JSON alone: {{"scenes": ["...", "..."]}}"""

PARTS = """\
Two pictures are meant to show the very same thing, described as: {subject}.
Look at it in the first picture. Name it in a few words, then list the parts that it is made of and that \
can be seen there, at most {count}, the main ones first. Every piece of writing on it is a part of its \
own: quote it.
Answer with JSON alone: {{"subject": "...", "parts": ["...", "..."]}}"""

DIFFERENCES = """\
Now compare the two pictures part by part. For each part of your list, with exactly its name, say in one \
sentence how it differs in the second picture: its shape, colour, material, pattern, proportions, and the \
letters of any writing; or say that it is missing; or that it does not differ.
Differences of pose, point of view, background and light do not count, nor do things that were added to \
it or stand beside it, nor a part that is merely hidden or out of the picture.
Answer with JSON alone: {{"differences": [{{"part": "...", "difference": "..."}}]}}"""

SCORES = """\
Now score each part, with exactly its name, by the difference that you described, as an integer:
4: no difference; 3: one that takes a close look; 2: plain to see, but it is still the same part; 1: \
hardly the same part; 0: another part, or missing.
Answer with JSON alone: {{"scores": [{{"part": "...", "score": 4}}]}}"""
