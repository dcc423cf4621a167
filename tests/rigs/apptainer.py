#!/usr/bin/python3
"""A stand-in for apptainer: runs the command on the node, as far as possible as ``exec`` would.

It has no image to enter, so what is bound to /srv is its working directory, and names of /srv in the
environment are those of the node.
"""

import json
import os
import sys

words = sys.argv[1:]
assert words.pop(0) == "exec", sys.argv
binds, options = [], []
while words[0].startswith("--"):
    option = words.pop(0)
    if option == "--bind":
        binds.append(words.pop(0))
    elif option == "--pwd":
        place = words.pop(0)
    else:
        options.append(option)
image = words.pop(0)
[job] = [bind.partition(":")[0] for bind in binds if bind.endswith(":/srv")]
assert place == "/srv", place
assert os.path.isdir(image) or os.path.isfile(image), image
os.chdir(job)
with open("apptainer.json", "w") as file:
    json.dump({"image": image, "binds": binds, "options": options}, file)
for name, value in os.environ.items():
    if value.startswith("/srv/"):
        os.environ[name] = job + value[4:]
os.execvp(words[0], words)
