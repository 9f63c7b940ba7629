"""Prints the first COUNT answers of a batch's output file beside their prompts.

usage: show_answers.py INPUT OUTPUT COUNT
"""

import json
import sys
import textwrap
from itertools import islice


def text(content):
    """A message's content is a string or an array of text parts."""
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


def shown(label, words):
    one_line = textwrap.shorten(words, 240, placeholder=" …")
    print(textwrap.fill(one_line, 100, initial_indent=f"  {label:>7}  ", subsequent_indent=" " * 11))


input_path, output_path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(input_path, encoding="utf-8") as file:
    requests = {line["custom_id"]: line["body"] for line in map(json.loads, file)}
with open(output_path, encoding="utf-8") as file:
    answers = [json.loads(line) for line in islice(file, count)]
for answer in answers:
    print(f"\n{answer['custom_id']}")
    shown("prompt", text(requests[answer["custom_id"]]["messages"][-1]["content"]))
    shown("answer", answer["response"]["body"]["choices"][0]["message"]["content"])
