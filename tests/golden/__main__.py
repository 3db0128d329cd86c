"""`python -m tests.golden` writes the golden values anew."""

import json

from tests.golden.record import FILE, computed

if __name__ == "__main__":
    FILE.write_text(json.dumps(computed(), indent=1) + "\n", encoding="utf-8")
