"""The data of a page as it stands in the file: JSON, deflated, in base64.

Messages of a run repeat each other, so that the block is a fraction of its JSON. Base64 has no character that means
something in HTML. Versions of zlib may deflate the same JSON to other bytes, so pages are compared by what is in it.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

_BLOCK = re.compile(r'(<script type="application/zlib" id="data">)([A-Za-z0-9+/=]*)(</script>)')


def folded(value: Any) -> str:
    """Return a value as the text of a block."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def unfolded(page: str) -> tuple[str, Any]:
    """Return a page without its data, and the data. ValueError where the text is no page or its block is broken."""
    found = _BLOCK.search(page)
    if found is None:
        raise ValueError("no page of this release of parity: it has no block of data")
    try:
        data = json.loads(zlib.decompress(base64.b64decode(found[2], validate=True)))
    except (zlib.error, ValueError) as error:
        raise ValueError(f"the block of data is broken: {error}") from error
    return page[: found.start(2)] + page[found.end(2) :], data
