"""What a benchmark leaves: its figures as JSON, and the same for readers."""

import json


def publish(folder, name, found, page):
    """Writes NAME.json and NAME.md into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    (folder / f"{name}.md").write_text(page)
